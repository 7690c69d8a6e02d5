"""A loss, a network or an augmentation that replaces another starts with its own defaults."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import yaml
from jsonargparse import Namespace


def drop_replaced(before: Any, given: Any) -> None:
    """Drop the losses, the networks and the augmentations that new settings replace.

    The parser would keep all settings that both take: one loss's weight and temperature to another, one network's
    width to another, and Mixup's ``alpha`` to CutMix.

    Args:
        before: Earlier settings, of a task, a teacher, data or all; the parser merges the new ones into them.
        given: New settings, which name only what they change.
    """
    before, given = _settings(before), _settings(given)
    for part in ("model", "teacher", "data"):
        if part in before and part in given:
            drop_replaced(before[part], given[part])
    members, changed = before.get("members"), given.get("members")
    if isinstance(members, dict) and isinstance(changed, dict):
        for name in members.keys() & changed.keys():
            drop_replaced(members[name], changed[name])
    if "network" in before and _replaces(given.get("network"), before["network"]):
        before.pop("network")
    if isinstance(given.get("augment"), list) and before.get("augment") != given["augment"]:
        before.pop("augment", None)
    losses = given.get("losses")
    if isinstance(before.get("losses"), dict) and isinstance(losses, dict):
        kept = {name: loss for name, loss in before["losses"].items() if not _replaces(losses.get(name), loss)}
        before["losses"] = kept


def _replaces(given: Any, before: Any) -> bool:
    """Return whether another class is named; the parser also reads the same settings again to check them."""
    names_class = isinstance(given, str) or (isinstance(given, dict | Namespace) and "class_path" in given)
    return names_class and given != before


def _settings(value: Any) -> dict[str, Any] | Namespace:
    """Return a class's arguments, or the settings of several classes."""
    value = value.get("init_args", value) if isinstance(value, dict | Namespace) else None
    return value if isinstance(value, dict | Namespace) else {}


def as_settings(args: Sequence[str] | None) -> dict[str, Any]:
    """Return an option such as ``--losses.kd=DIST`` as the nested settings of a config."""
    if args is None or len(args) != 1:
        return {}
    name, _, text = args[0].removeprefix("--").partition("=")
    settings: Any = text
    with suppress(yaml.YAMLError, RecursionError, ValueError):
        settings = yaml.safe_load(text)
    for key in reversed([key for key in name.split(".") if key != "init_args"]):
        settings = {key: settings}
    return dict(settings)
