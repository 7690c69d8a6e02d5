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


def explain(message: str) -> str:
    """Return one sentence that names the option, its value and what was expected."""
    option = ".".join(dict.fromkeys(re.findall(r'Parser key "([^"]+)"', message)))
    innermost = re.split(r"Got value:|Given value", message)[0]  # behind it: what the options around it take
    literals = [
        text.strip("'\"") for texts in re.findall(r"Literal\[([^\]]+)\]", innermost) for text in texts.split(", ")
    ]
    if name := re.search(r"Expected a dot import path string: (\S+)", message):
        return f"there is no '{name[1]}' for --{option}{_choices(option, literals)}."
    if name := re.search(r"Option '([^']+)' is not accepted", message):
        return f"there is no option --{option}.{name[1]}; `--{option}.help CLASS` lists what a class takes."
    if name := re.search(r"does not accept option '([^']+)'", message):
        return f"a config of this command has no '{name[1]}'; a study, which has a baseline, is run by `compare`."
    if missing := re.search(r"the following arguments are required: (.+)", message):
        where = f" in --{option}" if option else ""
        return f"{missing[1]} must be given{where}, best in a config: `--config teacher.yaml` and the like."
    if unknown := re.search(r"[Uu]nrecognized arguments: (.+)", message):
        return f"there is no option {unknown[1]}; `--help` lists the options."
    expected = list(dict.fromkeys([*literals, *_expected(innermost)]))
    given = re.findall(r"Got value: (.*)", message) or re.findall(r"Given value: (.*)", message)
    if option and expected and given:
        return f"--{option} is {given[0].strip()}, but it must be {' or '.join(expected)}."
    return "; ".join(line.strip(" -") for line in message.splitlines() if line.strip())


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


def _expected(message: str) -> Iterator[str]:
    for kind in re.findall(r"Expected a <class '([^']+)'>", message):
        name = kind.rpartition(".")[2]
        yield {"int": "a whole number", "float": "a number", "NoneType": "null", "bool": "true or false"}.get(
            name, name
        )
