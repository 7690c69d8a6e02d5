"""Turns the parser's reports, which can be pages, into one sentence."""

import re
from collections.abc import Iterator
from typing import Any

from lightning.pytorch import Callback

from kd_lightning.data import ImageDataModule
from kd_lightning.data.augment import Augmentation
from kd_lightning.networks import Network
from kd_lightning.tasks import Task

CHOICES: dict[str, type[Any]] = {
    "model": Task,
    "network": Network,
    "data": ImageDataModule,
    "augment": Augmentation,
    "callbacks": Callback,
}
"""The base class of what a key takes: an unknown class name is answered with the known ones."""


STUDY = ("baseline", "compared", "teacher", "teachers", "seeds", "onnx")
"""What only a study has."""

WORDS = {
    "int": "a whole number",
    "float": "a number",
    "NoneType": "null",
    "bool": "true or false",
    "tuple": "a list",
    "list": "a list",
    "Sequence": "a list",
    "Iterable": "a list",
    "dict": "a mapping",
    "str": "text",
}
"""What a type is called in a sentence."""


def explain(message: str) -> str:
    """Return one sentence that names the option, its value and what was expected."""
    option = ".".join(dict.fromkeys(re.findall(r'Parser key "([^"]+)"', message)))
    # A union is refused with what is wrong for each of its types; the mistake is in the one that went deepest.
    deepest = re.split(r'Parser key "[^"]+":', message)[-1]
    said = re.split(r"Got value:|Given value", deepest)[0]  # behind it: what the options around it take
    return (
        _wrong_name(message, option)
        or _wrong_class(deepest, said, option)
        or _wrong_value(deepest, said, option)
        or "; ".join(line.strip(" -") for line in message.splitlines() if line.strip())
    )


def _wrong_name(message: str, option: str) -> str | None:
    """Explain a name that is not known, or one that is missing."""
    if "surrogates not allowed" in message:
        return f"an option of --{option} has bytes that are not UTF-8, which no config can hold; rename what it names."
    if name := re.search(r"Option '([^']+)' is not accepted", message):
        if not option:
            return f"there is no '{name[1]}' in a study; seed_table.yaml shows what there is."
        return f"there is no option --{option}.{name[1]}; `--{option}.help CLASS` lists what a class takes."
    if name := re.search(r"(Group '[^']+' )?does not accept option '([^']+)'", message):
        if name[1]:
            return f"there is no '{name[2]}' in '{name[1].split(chr(39))[1]}'; mend the config."
        hint = "; a study, which has a baseline, is run by `compare`" if name[2].split(".")[0] in STUDY else ""
        return f"a config of this command has no '{name[2]}'{hint}."
    if missing := re.search(r"the following arguments are required: (.+)", message):
        where = f" in --{option}" if option else ""
        what = re.sub(r"\b(fit|validate|test)\.", "--", missing[1])
        return f"{what} must be given{where}, best in a config: `--config teacher.yaml` and the like."
    if unknown := re.search(r"[Uu]nrecognized arguments: (.+)", message):
        return f"there is no option {unknown[1]}; `--help` lists the options."
    if name := re.search(r"Unable to load config ['\"]([^'\"]+)", message):
        return f"'{option}' is {name[1]}, but it must be a mapping, such as `{option}: {{config: {name[1]}}}`."
    return None


def _wrong_class(deepest: str, said: str, option: str) -> str | None:
    """Explain the name of a class that is not there, or is of another kind."""
    if name := re.search(r"Import path (?:(\S+) )?does not correspond to a subclass of (\w+)", deepest):
        path = name[1] or (_given(deepest) or "")
        return f"--{option} is {path}, but that is no {name[2]}{_choices(option, [])}."
    if name := re.search(
        r"class_path '([^']+)':\s+(No module named .*|.* has no attribute .*|cannot import .*)", deepest
    ):
        return f"there is no '{name[1]}' for --{option} ({name[2].strip()}){_choices(option, [])}."
    name = re.search(r"Expected a dot import path string: (\S+)", deepest)
    if name and not re.search(r"Expected a <class '(int|float)'>", said):
        return f"there is no '{name[1]}' for --{option}{_choices(option, _literals(said))}."
    return None


def _wrong_value(deepest: str, said: str, option: str) -> str | None:
    """Explain a value of another type than its option's."""
    expected = list(dict.fromkeys([*_literals(said), *_expected(said)]))
    if "a number" in expected and "a whole number" in expected:
        expected.remove("a whole number")
    given = _given(deepest)
    if not (option and expected and given):
        return None
    return f"--{option} is {given}, but it must be {' or '.join(expected)}."


def _given(deepest: str) -> str | None:
    """Return the value that was refused; behind it stands what is around it."""
    value = re.search(r"(?:Got|Given) value: (.*)", deepest)
    return value[1].split(". Got value: ")[0].strip() if value else None


def _literals(said: str) -> list[str]:
    return [text.strip("'\"") for texts in re.findall(r"Literal\[([^\]]+)\]", said) for text in texts.split(", ")]


def _choices(option: str, words: list[str]) -> str:
    base = next((base for key, base in CHOICES.items() if key == option.rpartition(".")[2]), None)
    names = sorted({kind.__name__ for kind in _concrete(base)}) if base else []
    choices = list(dict.fromkeys([*words, *names]))
    known = f"choose one of {', '.join(choices)}, or " if choices else ""
    return f"; {known}give an import path such as my_package.MyClass"


def _concrete(kind: type[Any]) -> Iterator[type[Any]]:
    """Give the classes under one that are this project's or the user's, and can be built."""
    for sub in kind.__subclasses__():
        yield from _concrete(sub)
        ours_or_users = not sub.__module__.startswith(("lightning.", "pytorch_lightning.", "torch"))
        if ours_or_users and not getattr(sub, "__abstractmethods__", None) and not sub.__name__.startswith("_"):
            yield sub


def _expected(said: str) -> Iterator[str]:
    for kind in re.findall(r"Expected a <class '([^']+)'>", said):
        name = kind.rpartition(".")[2]
        yield WORDS.get(name, name)
