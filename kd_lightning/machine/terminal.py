"""What is printed for people: lines that fit the terminal, or 80 columns where there is none."""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from textwrap import wrap
from typing import Any

MIN_WIDTH = 40
"""Fewest columns that text is wrapped to; a narrower terminal breaks lines itself."""

FILE_WIDTH = 80
"""Columns of text in files."""

PROGRAM = "kd-lightning"
"""How commands to copy begin."""

_quiet = False


def columns() -> int:
    """Return the width of a line: the terminal's, or 80 where there is none; the environment's COLUMNS comes first."""
    return max(MIN_WIDTH, shutil.get_terminal_size((FILE_WIDTH, 24)).columns)


def is_redrawable() -> bool:
    """Return whether standard output is a terminal on which a line can be drawn again."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def fitted(text: str, width: int | None = None, hang: int = 4) -> str:
    """Return a text whose lines are broken between words; a path or `a command` that is longer stands on its own line.

    A command at the end of a line, after a colon, can still be copied: it follows as ``command_text`` writes it.

    Args:
        text: Lines; each keeps its indent.
        width: Columns; the terminal's by default.
        hang: Columns by which a broken line's other parts are indented further.
    """
    most = columns() if width is None else width
    return "\n".join(line if len(line) <= most else _broken(line, most, hang) for line in text.split("\n"))


def _broken(line: str, width: int, hang: int) -> str:
    sentence, _, arguments = line.partition(f": {PROGRAM} ")
    if arguments:
        return f"{fitted(f'{sentence}:', width, hang)}\n{command_text([PROGRAM, *shlex.split(arguments)], width)}"
    indent = " " * (len(line) - len(line.lstrip()) + hang)
    uncut = re.sub(r"`[^`]*`|(?<=\d) (?=%|[a-zA-Z]{1,3}\b)", lambda found: found[0].replace(" ", "\0"), line)
    parts = wrap(uncut, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return "\n".join(parts).replace("\0", " ")


def command_text(words: Sequence[str], width: int | None = None, indent: int = 2) -> str:
    """Return a command to copy, indented; where it is too long, its lines end in a backslash as a shell wants it."""
    most = columns() if width is None else width
    quoted = [shlex.quote(word) for word in words]
    lines, line = list[str](), " " * indent + quoted[0]
    for word in quoted[1:]:
        if len(line) + len(word) + 3 > most:  # a blank before the word, and one before the backslash
            lines.append(f"{line} \\")
            line = " " * (indent + 2) + word
        else:
            line += f" {word}"
    return "\n".join([*lines, line])


def set_quiet(quiet: bool) -> None:
    """Let ``print_fitted`` print nothing from now on, or print again."""
    global _quiet
    _quiet = quiet


@contextmanager
def quiet_restored() -> Iterator[None]:
    """Print again afterwards, where it printed before."""
    before = _quiet
    try:
        yield
    finally:
        set_quiet(before)


def is_quiet() -> bool:
    """Return whether only results are printed."""
    return _quiet


def print_fitted(text: str, **options: Any) -> None:
    """Print a text that fits the terminal, and at once, so that the log of a queue shows it; not where quiet."""
    if not _quiet:
        print(fitted(text), **{"flush": True, **options})
