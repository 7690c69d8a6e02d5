"""Words for messages, and untrusted texts (names of files and classes) made safe to print."""

import re
import unicodedata
from collections.abc import Sequence

STEERING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Invisible characters that change the direction of text, so that it reads as another one."""
NOT_SHOWN = {"Cc", "Cs", "Zl", "Zp"}
"""Unicode's categories of control characters, surrogates, and ends of lines and paragraphs."""
FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What spreadsheets take for the beginning of a formula, their wide forms included."""


def counted(number: int, thing: str) -> str:
    """Return a number and the name of what it counts, as ``1 epoch`` or ``2,000 epochs``."""
    return f"{number:,} {thing if number == 1 else f'{thing}s'}"


def labels_in_words(images: int, unlabelled: int) -> str:
    """Return how many of some images have a label, in brackets; nothing where all have one."""
    return f" ({images - unlabelled:,} labelled, {unlabelled:,} unlabelled)" if unlabelled else ""


def epochs_in_words(epochs: float, limits: str) -> str:
    """Return how long a training was, as ``1 epoch`` or ``0.03 epochs (cut short by limit_train_batches 2)``."""
    number = "1 epoch" if epochs == 1 else f"{epochs:,.4g} epochs" if epochs < 1000 else f"{epochs:,.0f} epochs"
    return f"{number} (cut short by {limits})" if limits else number


def duration(seconds: float) -> str:
    """Return a time, rounded as an estimate is: ``45 s``, ``12 min`` or ``2.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def exact_duration(seconds: float) -> str:
    """Return a time as measured: ``4.6 s``, ``3 min 40 s`` or ``2 h 5 min``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def did_you_mean(near: Sequence[str]) -> str:
    """Return a hint with similar names, for the end of a message; empty where there is none."""
    return f" (did you mean {' or '.join(near)}?)" if near else ""


def shown(text: object) -> str:
    r"""Return a text as one line without control characters: an escape character becomes ``\x1b``."""
    line = str(text)
    return line if line.isprintable() else "".join(map(_shown_character, line))


def shown_lines(text: object) -> str:
    """Do what ``shown`` does with each line of a text."""
    return "\n".join(map(shown, str(text).split("\n")))


def _shown_character(character: str) -> str:
    if character not in STEERING and unicodedata.category(character) not in NOT_SHOWN:
        return character
    return character.encode("unicode_escape").decode()


def in_csv(value: object) -> object:
    """Return the value of a CSV cell; a text that a spreadsheet would run as a formula gets an apostrophe in front."""
    if not isinstance(value, str):
        return value
    text = shown(value)
    return f"'{text}" if text.lstrip().startswith(FORMULA) else text


def in_markdown(text: object) -> str:
    """Return a text that ends no cell of a Markdown table, and starts no HTML, link, code or emphasis."""
    line = re.sub(r"([\\`*\[\]|]|(?<!\w)_|_(?!\w))", r"\\\1", shown(" ".join(str(text).split())))
    return line.replace("&", "&amp;").replace("<", "&lt;")


def shortened(text: str, most: int = 1000) -> str:
    """Return a text without its middle where it is longer than ``most`` characters."""
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"


def as_hard(ratio: float) -> str:
    """Return how hard a loss pulls, before "as the labels"."""
    return "as hard" if ratio == 1 else f"{ratio:g} times as hard"
