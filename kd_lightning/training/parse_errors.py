"""Turns the parser's reports, which can be pages, into one sentence."""

import re
from difflib import get_close_matches
from pkgutil import resolve_name
from typing import Any

from jsonargparse import ArgumentParser
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kd_lightning.networks import Network
from kd_lightning.training import class_choices
from kd_lightning.training.suggest import FROM_DATA
from kd_lightning.wording import did_you_mean

EXAMPLES = {"save_dir": "lightning_logs", "root": "photos", "monitor": "val/loss", "step_size": "10"}
"""Values of options that must be given."""

STUDY = (
    "baseline",
    "compared",
    "teacher",
    "options",
    "teachers",
    "seeds",
    "first_seed",
    "tuning_seeds",
    "looks",
    "onnx",
)
"""Keys that only a study has; of runs, ``baseline`` names a config and is text."""

NO_OPTIONS: dict[type[Any], tuple[str, ...]] = {
    Network: FROM_DATA,
    Optimizer: ("params",),
    LRScheduler: ("optimizer",),
}
"""Arguments that the program sets."""

IS_FUNCTION = "is a function, but a config can only name a class there"
"""The message's end for a function that a config names."""

WORDS = {
    **dict.fromkeys(("tuple", "list", "Sequence", "Iterable"), "a list"),
    "int": "a whole number",
    "float": "a number",
    "NoneType": "null",
    "bool": "true or false",
    "dict": "a mapping",
    "str": "text",
}
"""The names of types in messages."""

CLASS_PATH = r"given class_path '([^']+)'|Got value: Namespace\(class_path='([^']+)'"

NO_CLASS = "there is no '{value}' for --{option}"
SENTENCES = (
    (
        "surrogates not allowed",
        "an option of --{option} has bytes that are not UTF-8, which no config can hold; rename what it names",
    ),
    (r"^Option '(?P<value>[^']+)' is not", "there is no '{value}' in a study; notebook_table.yaml shows the keys"),
    (r"Group '(?P<option>[^']+)' does not accept option '(?P<value>[^']+)'", "there is no '{value}' in '{option}'"),
    (r"does not accept option '(?P<value>[^']+)'", "a config of this command has no '{value}'"),
    (r"[Uu]nrecognized arguments: (?P<value>.+)", "there is no option {value}; `--help` lists the options"),
    (
        r"Unable to load config ['\"](?P<value>[^'\"]+)",
        "'{option}' is {value}, but it must be a mapping, such as `{option}: {{config: {value}}}`",
    ),
    (
        r"Import path (?:(?P<value>\S+) )?does not correspond to a subclass of (?P<more>\w+)",
        "--{option} is {value}, which is not a subclass of {more}{choices}",
    ),
    (
        r"class_path '(?P<value>[^']+)':\s+(?P<more>No module named .*|.* has no attribute .*|cannot import .*)",
        NO_CLASS + " ({more}){choices}",
    ),
    (
        r"Multiple subclasses with name (?P<value>\w+)\. .* ambiguity: (?P<more>.+)\.",
        "--{option} is {value}, but several classes have that name; give one of {more}",
    ),
    (
        rf"Expected '(?P<value>\S+)' to be a function|(?P<more>\S+) {IS_FUNCTION}"
        r"(?:\. Got value: Namespace\(class_path='(?P<other>[^']+))?",
        "--{option} is {value}, which " + IS_FUNCTION,
    ),
    (r"callable class: (?P<more>.+)\. Got value: (?P<value>\S+)", NO_CLASS + " ({more}){choices}"),
    (
        r"Not a valid subclass of \w+\. Got value: (?P<value>\{.*)",
        "--{option} is {value}, which names no class; fix its name, or give its class first{choices}",
    ),
    (r"(?P<value>\S+) is abstract", "--{option} has no class yet; fix its name, or give its class first{choices}"),
    (
        r"(?s)^(?!.*<class '(?:int|float)'>).*Expected a dot import path string: (?P<value>\S+)",
        NO_CLASS + "{choices}",
    ),
)
"""What a report says, and a sentence for it; the first that is found counts."""


def explain(message: str) -> str:
    """Return one sentence that names the option, its value and what was expected."""
    keys = list(dict.fromkeys(re.findall(r'Parser key "([^"]+)"', message)))
    # For a union the report lists an error for each type; the mistake is in the deepest one.
    deepest = re.split(r'Parser key "[^"]+":', message)[-1]
    sentence = (
        _wrong_option(message, keys)
        or _missing(message, keys)
        or _wrong_name(message, deepest, keys)
        or _wrong_value(message, deepest, keys)
        or "; ".join(line.strip(" -") for line in message.splitlines() if line.strip())
    ).rstrip(".")
    if keys[:1] == ["baseline"] or re.search(rf"has no '({'|'.join(STUDY)})\b", sentence):
        sentence += "; a study, which has a baseline, is run by `compare`"
    if close := re.search(r"[{\[' ]([A-Za-z_]\w*):([A-Za-z_][\w.]*)", sentence):
        sentence += f"; YAML needs a space after each colon: `{close[1]}: {close[2]}`"
    return sentence if sentence.endswith("?") else f"{sentence}."


def _option(message: str, keys: list[str], value: str = "") -> str:
    """Return an option's name; the report omits the entries of mappings, such as a loss's name.

    Args:
        message: The report, which ends with the outermost value.
        keys: The keys in it, from the outermost to the wrong one.
        value: The wrong name of a class, where that is the mistake.
    """
    if nested := re.search(r"NestedArg\(key='([^']+)'", message):
        return ".".join(key for key in dict.fromkeys([keys[0], *nested[1].split("."), *keys[1:]]) if key != "init_args")
    opened = r"(?:Namespace\(|\{)"
    around = rf"'(\w+)': (?:\{{'class_path': )?'?{re.escape(value)}"
    if not value:
        around = rf"'(\w+)': {opened}(?:'?class_path'?[=:] ?'[^']*', )?'?init_args'?[=:] ?{opened}"
        around += rf"(?:[^{{}}()]*\W)?{re.escape(keys[-1])}\W"
    entry = re.findall(around, message.rpartition("Given value: ")[2])[:1]
    return ".".join(dict.fromkeys([*keys, *entry] if value else [*keys[:-1], *entry, keys[-1]]))


def _wrong_option(message: str, keys: list[str]) -> str | None:
    """Explain an option that its class does not have, and list those that it has."""
    name = re.search(r"Option '([^']+)' is not accepted|[Uu]nrecognized arguments: --([\w-]+)", message)
    if not (keys and name):
        return None
    wrong = name[1] or name[2]
    option = _option(message, [*keys, wrong])
    classes = ["".join(found) for found in re.findall(CLASS_PATH, message)]
    known = _options(classes[-1]) if classes else None
    if known is None:
        return f"there is no option --{option}; `--{'.'.join(keys)}.help CLASS` lists what a class takes"
    near = get_close_matches(wrong, known, n=3, cutoff=0.5)
    listed = ", ".join([*near, *(other for other in known if other not in near)])
    return (
        f"there is no option --{option}; {classes[-1].rpartition('.')[2]} has {listed or 'no options'}"
        f"{did_you_mean(near[:1])}"
    )


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
    if not keys:
        names = re.sub(r"\b(fit|validate|test)\.", "--", missing[1])
        return f"{names} must be given, best in a config: `--config quickstart.yaml` and the like"
    name = missing[1].partition(",")[0]
    where = _option(message, [*keys, f"{name}=None"]).rpartition(".")[0]
    return f"{missing[1]} must be given in --{where}, as in --{where}.{name} {EXAMPLES.get(name, name.upper())}"


def _wrong_value(message: str, deepest: str, keys: list[str]) -> str | None:
    """Explain a value of another type than its option's."""
    types, *_ = re.split(r"Got value:|Given value", deepest)  # after it: the types of the options around it
    kinds = [kind.rpartition(".")[2] for kind in re.findall(r"Expected a <class '([^']+)'>", types)]
    given = _given(deepest)
    if not (keys and given):
        return None
    expected = list(dict.fromkeys([*_literals(types), *(WORDS.get(kind, kind) for kind in kinds)]))
    if "float" in kinds and "int" in kinds:
        expected.remove("a whole number")
    return f"--{_option(message, keys)} is {given}, but it must be {' or '.join(expected)}" if expected else None


def _given(deepest: str) -> str:
    """Return the refused value, without the values around it that follow."""
    value = re.search(r"(?:Got|Given) value: (.*)", deepest)
    return value[1].split(". Got value: ")[0].strip() if value else ""


def _wrong_name(message: str, deepest: str, keys: list[str]) -> str | None:
    """Explain an unknown name of a class or a key."""
    for pattern, sentence in SENTENCES:
        if found := re.search(pattern, deepest):
            groups = {name: found.groupdict().get(name) or "" for name in ("option", "value", "other", "more")}
            value = groups["value"] or groups["other"] or _given(deepest) or groups["more"]
            option = groups["option"] or (_option(message, keys, value) if keys else "")
            choices = class_choices.choices(keys[-1], _literals(deepest), value) if keys else ""
            return sentence.format(option=option, value=value, more=groups["more"].strip(), choices=choices)
    return None


def _literals(types: str) -> list[str]:
    return [text.strip("'\"") for texts in re.findall(r"Literal\[([^\]]+)\]", types) for text in texts.split(", ")]
