"""A first look at a command's arguments: mistakes in names are answered before torch is imported, which takes seconds.

It refuses nothing that the parser takes. What it does not know, such as a class of the user's, it leaves to the parser.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from kd_lightning.errors import UserError
from kd_lightning.training.class_change import as_settings
from kd_lightning.training.config_files import find_config
from kd_lightning.training.yaml_check import check_yaml, read_yaml
from kd_lightning.usage import names
from kd_lightning.usage.settings import IMPORT_PATH, LIBRARIES, Settings
from kd_lightning.wording import shown

EXAMPLES = {"compare": "quickstart_compare.yaml"}
"""A config for each command; ``quickstart.yaml`` for the others."""

NEGATIVE = re.compile(r"-\d+$|-\d*\.\d+$")
FILES = (".yaml", ".yml", ".pth", ".ckpt", ".onnx", ".json", ".csv", ".png", ".npz")


class Word(NamedTuple):
    """An option with its value; ``value`` is ``None`` for one without."""

    option: str
    value: str | None


class Given(NamedTuple):
    """Settings that an option or a config gives."""

    settings: Mapping[str, Any]
    option: str = ""
    config: str = ""


def check_arguments(args: Sequence[str]) -> None:
    """Refuse unknown names of configs, options and classes.

    Args:
        args: The command and its arguments.

    Raises:
        UserError: There is one; the message says what was probably meant.
    """
    command = args[0]
    if command not in names.TOP:
        return
    words = list(_words(command, args[1:]))
    _check_config_given(command, words)
    given = [part for word in words for part in _given(command, word)]
    own_only = not names.has_other_classes() and not any(map(_is_users, _texts([part.settings for part in given])))
    settings = Settings(command)
    for part in given:
        before = f"in {part.config}: " if part.config else ""
        settings.add(part.settings, own_only, part.option, before)


def _words(command: str, args: Sequence[str]) -> Iterator[Word]:
    """Give options and their values, up to the first word that only the parser understands."""
    rest = list(args)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            raise UserError(_no_option(command, word, args))
        if word.startswith("-c") and word != "-c":
            word = f"--config={word[2:]}"
        option, equals, value = word.partition("=")
        if option == "--print_config":
            continue
        if (not option.startswith("--") and option != "-c") or option == "--" or option.endswith(".help"):
            return
        if not equals:
            if not rest or (rest[0].startswith("-") and not NEGATIVE.match(rest[0]) and " " not in rest[0]):
                yield Word(option, None)
                return
            value = rest.pop(0)
        yield Word("--config" if option == "-c" else option, value)


def _no_option(command: str, word: str, args: Sequence[str]) -> str:
    """Return the sentence for a word that belongs to no option."""
    takes_config = "config" in names.TOP[command]
    if takes_config and word.endswith((".yaml", ".yml")):
        several = any(other.startswith(("--config", "-c")) for other in args)
        shorter = "each config has its own --config" if several else "a config comes after --config"
        return f"{shorter}: `kd-lightning {command} --config {shown(word)}`."
    before = args[list(args).index(word) - 2] if list(args).index(word) > 1 else ""
    if before.startswith("--") and "=" not in before:
        return f"'{shown(word)}' belongs to no option; a list is one word: {before} '[A, B]'."
    return f"'{shown(word)}' belongs to no option; `kd-lightning {command} --help` shows how to write them."


def _check_config_given(command: str, words: Sequence[Word]) -> None:
    """Refuse a command without a config, which the parser refuses, too."""
    options = [word.option for word in words]
    if "config" not in names.TOP[command] or any(option.startswith("--c") for option in options):
        return
    if words and words[-1].value is None:
        return
    if command == "compare" or not any(option.startswith("--model") for option in options):
        what = "a study" if command == "compare" else "a config"
        example = f"kd-lightning {command} --config {EXAMPLES.get(command, 'quickstart.yaml')}"
        raise UserError(f"{command} needs {what}: `{example}`; `kd-lightning list configs` shows all.")


def _given(command: str, word: Word) -> Iterator[Given]:
    """Give the settings of an option, or of the config that it names."""
    if word.option == "--config" and "config" in names.TOP[command]:
        if word.value is not None:
            content = read_yaml(find_config(word.value))
            if command != "compare" and "compared" in content:
                raise UserError(f"{word.value} is a study: run it with `kd-lightning compare --config {word.value}`.")
            yield Given(content, config=word.value)
        return
    text = "null" if word.value is None else word.value
    with suppress(yaml.YAMLError):
        check_yaml(text, f"the value of {word.option}")
    yield Given(as_settings([f"{word.option}={text}"]), option=word.option)


def _texts(value: Any) -> Iterator[str]:
    """Give all texts in settings."""
    if isinstance(value, str):
        yield value
    for item in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
        yield from _texts(item)


def _is_users(text: str) -> bool:
    """Return whether a text may name a class of the user's; its module may define more, which have bare names then."""
    return bool(IMPORT_PATH.fullmatch(text)) and not text.startswith(LIBRARIES) and Path(text).suffix not in FILES
