"""The part of a config that names a class, with its required options and the usual ones."""

from typing import Any

import yaml

from kd_lightning.listing.classes import REQUIRED, Code, Option
from kd_lightning.listing.kinds import Entry

EXAMPLES: dict[str, Any] = {
    "network": "LightNN",
    "teacher": {"class_path": "Teacher", "init_args": {"network": "DeepNN", "config": "teacher.yaml"}},
    "members": {
        name: {"class_path": "Teacher", "init_args": {"network": network, "config": f"{name}.yaml"}}
        for name, network in (("big", "ResNet9"), ("deep", "DeepNN"))
    },
    "losses": {"labels": "CrossEntropy", "kd": "SoftTargets"},
    "student": "features",
    "root": "photos",
    "module": "my_networks.Net",
}
"""Values of options that are required, or empty by default."""

LAYERS = ["features.1", "features"]
"""The value of ``student`` where it is a list: two layers or more."""


def snippet(entry: Entry) -> str:
    """Return the part of a config that names a class."""
    value: Any = {"class_path": entry.class_path}
    if given := {option.name: _example(option) for option in entry.options if _is_shown(entry, option)}:
        value["init_args"] = given
    *around, last = entry.kind.place.split(".")
    name = (entry.source.short or "mine") if last == "NAME" else last
    part = {name: [value] if last == "augment" else value}
    for name in reversed(around):
        part = {name: {"init_args": part} if name in ("model", "data") else part}
    return yaml.safe_dump(part, sort_keys=False, default_flow_style=None, width=100)


def _is_shown(entry: Entry, option: Option) -> bool:
    if option.default is None or isinstance(option.default, Code):
        return False
    return option.default is REQUIRED or option in entry.own_options or option.name == "weight"


def _example(option: Option) -> Any:
    if option.default is not REQUIRED and option.default != "":
        return option.default
    if option.kind.startswith(("list", "Sequence", "tuple")):
        return LAYERS if option.name == "student" else [option.name.upper()]
    return EXAMPLES.get(option.name, option.name.upper())


def plain(value: Any) -> str:
    """Return a default as a config has it."""
    if isinstance(value, Code):
        return str(value)
    plain_value = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump([plain_value], default_flow_style=True, width=1000).strip()[1:-1]
