"""Turns the parser's reports, which can be pages, into one sentence."""

import re
import sys
from collections.abc import Iterator
from difflib import get_close_matches
from pkgutil import resolve_name
from typing import Any

from jsonargparse import ArgumentParser
from lightning.pytorch import Callback
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kd_lightning.data import ImageDataModule
from kd_lightning.data.augment import Augmentation
from kd_lightning.losses import Loss
from kd_lightning.networks import Network
from kd_lightning.tasks import Task
from kd_lightning.training.checks import FROM_DATA
from kd_lightning.training.option_paths import whole_path
from kd_lightning.wording import did_you_mean

CHOICES: dict[str, type[Any]] = {
    "model": Task,
    "network": Network,
    "losses": Loss,
    "data": ImageDataModule,
    "augment": Augmentation,
    "callbacks": Callback,
}
"""The base class of what a key takes: an unknown class name is answered with the known ones."""

STUDY = ("baseline", "compared", "teacher", "options", "teachers", "seeds", "first_seed", "looks", "onnx")
"""Keys that only a study has; of runs, ``baseline`` names a config and is text."""
IS_STUDY = "; a study, which has a baseline, is run by `compare`"
"""The end of a message about a study where a run's config is expected."""

NO_OPTIONS: dict[type[Any], tuple[str, ...]] = {
    Network: FROM_DATA,
    Optimizer: ("params",),
    LRScheduler: ("optimizer",),
}
"""Arguments that the program sets."""

IS_FUNCTION = "is a function, but a config can only name a class there"
"""The message's end for a function that a config names."""

FORMS = {
    "losses": "`losses: {labels: CrossEntropy, kd: SoftTargets}`",
    "teacher": "`teacher: {class_path: Teacher, init_args: {network: DeepNN}}`",
    "network": "`network: LightNN`",
    "student": "`student: features`",
}
"""Examples for required options."""

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
"""The names of types in messages."""


def explain(message: str) -> str:
    """Return one sentence that names the option, its value and what was expected."""
    keys = list(dict.fromkeys(re.findall(r'Parser key "([^"]+)"', message)))
    # For a union the report lists an error for each type; the mistake is in the deepest one.
    deepest = re.split(r'Parser key "[^"]+":', message)[-1]
    types = re.split(r"Got value:|Given value", deepest)[0]  # after it: the types of the options around it
    option = whole_path(keys, message, _given(deepest)) if keys else ""
    sentence = (
        _wrong_option(message, keys)
        or _missing(message, keys)
        or _wrong_name(message, option)
        or _wrong_class(message, deepest, types, keys)
        or _wrong_value(deepest, types, option)
        or "; ".join(line.strip(" -") for line in message.splitlines() if line.strip())
    )
    return sentence.removesuffix(".") + _no_space(sentence, message) + "." * sentence.endswith(".")


def _no_space(sentence: str, message: str) -> str:
    """Return a hint where a mapping in a sentence, or as it was read, lacks the space after a colon."""
    close = re.search(r"'([A-Za-z_]\w*):([\w.]+)': None", message) or re.search(
        r"[{\[](?:[^{}\[\]]*[ ,])?([A-Za-z_]\w*):([\w.]+|[{\[])", sentence
    )
    return f"; YAML needs a space after each colon: `{close[1]}: {close[2]}`" if close else ""


def _wrong_option(message: str, keys: list[str]) -> str | None:
    """Explain an option that its class does not have, and list those that it has."""
    name = re.search(r"Option '([^']+)' is not accepted|[Uu]nrecognized arguments: --([\w.-]+)", message)
    if not (keys and name):
        return None
    path = [*keys, name[1] or name[2].partition(".")[0]]
    option = whole_path(path, message)
    kinds = [*re.findall(r"given class_path '([^']+)'", message)]
    kinds += re.findall(r"Got value: Namespace\(class_path='([^']+)'", message[name.end() :].partition("\n")[0])
    known = _options(kinds[-1]) if kinds else None
    if known is None:
        return f"there is no option --{option}; `--{'.'.join(keys)}.help CLASS` lists what a class takes."
    near = get_close_matches(path[-1], known, n=3, cutoff=0.5)
    listed = ", ".join([*near, *(other for other in known if other not in near)])
    has = f"{kinds[-1].rpartition('.')[2]} has {listed or 'no options'}"
    return f"there is no option --{option}; {has}{did_you_mean(near[:1])}."


def _options(class_path: str) -> list[str] | None:
    """Return the names of a class's options, but for those that the data set; ``None`` where they are unknown."""
    try:
        kind = resolve_name(class_path)
        given = {name for base, names in NO_OPTIONS.items() if issubclass(kind, base) for name in names}
        names = ArgumentParser().add_class_arguments(kind, skip=given, fail_untyped=False)
    except Exception:  # the user's class cannot be inspected
        return None
    return sorted(names)


def _missing(message: str, keys: list[str]) -> str | None:
    """Explain a missing required option."""
    missing = re.search(r"the following arguments are required: (.+)", message)
    if missing is None:
        return None
    what = re.sub(r"\b(fit|validate|test)\.", "--", missing[1])
    names = what.split(", ")
    where = f" in --{whole_path([*keys, names[0]], message, 'None').rpartition('.')[0]}" if keys else ""
    if forms := [form for name, form in FORMS.items() if name in names]:
        return f"{what} must be given{where}, as in {' and '.join(forms)}."
    return f"{what} must be given{where}, best in a config: `--config teacher.yaml` and the like."


def _wrong_name(message: str, option: str) -> str | None:
    """Explain an unknown name, or a missing one."""
    if "surrogates not allowed" in message:
        return f"an option of --{option} has bytes that are not UTF-8, which no config can hold; rename what it names."
    if name := re.search(r"Option '([^']+)' is not accepted", message):
        return f"there is no '{name[1]}' in a study; notebook_table.yaml shows the keys."
    if name := re.search(r"(Group '[^']+' )?does not accept option '([^']+)'", message):
        if name[1]:
            return f"there is no '{name[2]}' in '{name[1].split(chr(39))[1]}'; fix the config."
        hint = IS_STUDY if name[2].split(".")[0] in STUDY else ""
        return f"a config of this command has no '{name[2]}'{hint}."
    if unknown := re.search(r"[Uu]nrecognized arguments: (.+)", message):
        return f"there is no option {unknown[1]}; `--help` lists the options."
    if name := re.search(r"Unable to load config ['\"]([^'\"]+)", message):
        return f"'{option}' is {name[1]}, but it must be a mapping, such as `{option}: {{config: {name[1]}}}`."
    return None


def _wrong_class(message: str, deepest: str, types: str, keys: list[str]) -> str | None:
    """Explain the name of a class that does not exist, or is of another kind."""
    if not keys:
        return None
    key = keys[-1]
    kind = re.search(
        r"Not a valid subclass of (\w+)\. Got value: (\{'(?:init_args'|\w+:).*)|but \S+?(\w+) is abstract", deepest
    )
    if kind:
        option = _entry(message, keys) if kind[3] else whole_path(keys, message, kind[2])
        return f"--{option} has no class yet; fix its name, or give its class first{_choices(key, [])}."
    if name := re.search(r"Import path (?:(\S+) )?does not correspond to a subclass of (\w+)", deepest):
        path = name[1] or (_given(deepest) or "")
        return (
            f"--{whole_path(keys, message, path)} is {path}, which is not a subclass of {name[2]}{_choices(key, [])}."
        )
    if name := re.search(
        r"class_path '([^']+)':\s+(No module named .*|.* has no attribute .*|cannot import .*)", deepest
    ):
        option = whole_path(keys, message, name[1])
        return f"there is no '{name[1]}' for --{option} ({name[2].strip()}){_choices(key, [])}."
    given = r"(?:\. Got value: Namespace\(class_path='([^']+)')?"
    if name := re.search(rf"Expected '(\S+)' to be a function|(\S+) {IS_FUNCTION}{given}", deepest):
        path = name[1] or name[3] or name[2]
        return f"--{whole_path(keys, message, path)} is {path}, which {IS_FUNCTION}."
    if name := re.search(r"Multiple subclasses with name (\w+)\. .* ambiguity: (.+)\.", deepest):
        option = whole_path(keys, message, name[1])
        return f"--{option} is {name[1]}, but several classes have that name; give one of {name[2]}."
    if name := re.search(r"expects a function or a callable class: (.+)\. Got value: (\S+)", deepest):
        option = whole_path(keys, message, name[2])
        return f"there is no '{name[2]}' for --{option} ({name[1]}){_choices(key, [])}."
    name = re.search(r"Expected a dot import path string: (\S+)", deepest)
    if name and not re.search(r"Expected a <class '(int|float)'>", types):
        return f"there is no '{name[1]}' for --{whole_path(keys, message, name[1])}{_choices(key, _literals(types))}."
    return None


def _entry(message: str, keys: list[str]) -> str:
    """Return the option of a mapping's entry that the command line names, such as ``model.losses.kd``."""
    nested = re.findall(r"NestedArg\(key='([^']+)'", message)
    return ".".join([keys[0], *(nested[-1].split(".")[: len(keys)] if nested else keys[1:])])


def _wrong_value(deepest: str, types: str, option: str) -> str | None:
    """Explain a value of another type than its option's."""
    expected = list(dict.fromkeys([*_literals(types), *_expected(types)]))
    if "a number" in expected and "a whole number" in expected:
        expected.remove("a whole number")
    given = _given(deepest)
    if not (option and expected and given):
        return None
    hint = IS_STUDY if option == "baseline" and given.startswith("{") else ""
    return f"--{option} is {given}, but it must be {' or '.join(expected)}{hint}."


def _given(deepest: str) -> str | None:
    """Return the refused value, without the values around it that follow."""
    value = re.search(r"(?:Got|Given) value: (.*)", deepest)
    return value[1].split(". Got value: ")[0].strip() if value else None


def _literals(types: str) -> list[str]:
    return [text.strip("'\"") for texts in re.findall(r"Literal\[([^\]]+)\]", types) for text in texts.split(", ")]


def _choices(option: str, words: list[str]) -> str:
    base = CHOICES.get(option.rpartition(".")[2])
    names = sorted({kind.__name__ for kind in _concrete(base)}) if base else []
    choices = list(dict.fromkeys([*words, *names]))
    known = f"choose one of {', '.join(choices)}, or " if choices else ""
    return f"; {known}give an import path such as my_package.MyClass"


def _concrete(kind: type[Any]) -> Iterator[type[Any]]:
    """Yield the concrete subclasses of a class that a config can name: this project's public ones and the user's."""
    for sub in kind.__subclasses__():
        yield from _concrete(sub)
        if _is_offered(sub) and not getattr(sub, "__abstractmethods__", None) and not sub.__name__.startswith("_"):
            yield sub


def _is_offered(kind: type[Any]) -> bool:
    """Return whether a class is the user's, or one of ours that its package exports."""
    module = kind.__module__
    if module.startswith("kd_lightning."):
        return hasattr(sys.modules[module.rpartition(".")[0]], kind.__name__)
    return not module.startswith(("lightning.", "pytorch_lightning.", "torch"))


def _expected(types: str) -> Iterator[str]:
    for kind in re.findall(r"Expected a <class '([^']+)'>", types):
        name = kind.rpartition(".")[2]
        yield WORDS.get(name, name)
