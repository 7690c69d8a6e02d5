"""Checks of a teacher that is to be trained first, before an hour is spent on it."""

import os
import re
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from kd_lightning.errors import UserError

FROM_DATA = ("num_classes", "in_channels", "image_size")
"""Arguments of a network that the data set."""

WHILE_TRAINING = ("dropout",)
"""Arguments of a network that do not change a frozen one."""


def check_teacher(settings: Namespace, config: Namespace) -> None:
    """Refuse to train a teacher that could not teach, or whose weights could not be written.

    Args:
        settings: The teacher's part of the config of a distillation.
        config: The config that trains it.

    Raises:
        UserError: It trains another network or needs itself, or the weights' path is wrong or not writable.
    """
    if settings.weights is not None:
        check_target(Path(settings.weights), settings.config, Path(config.files.weights).suffix)
    check_network(settings.network, config, settings.config)
    teacher = (config.model.get("init_args") or Namespace()).get("teacher")
    if isinstance(teacher, Namespace) and teacher.init_args.config == settings.config:
        raise UserError(
            f"{settings.config} trains a teacher with {settings.config} first, without end; name another config with "
            "--model.teacher.config, or weights with --model.teacher.weights."
        )


def check_network(wanted: Namespace, config: Namespace, name: str) -> None:
    """Refuse a teacher's config that trains another network than the one that is to be the teacher.

    Args:
        wanted: The teacher's network in the config of the distillation.
        config: The teacher's config.
        name: Its name.
    """
    trained = (config.model.get("init_args") or Namespace()).get("network")
    if not isinstance(trained, Namespace):  # the user's task, which builds its network itself
        return
    if _described(trained) != _described(wanted):
        raise UserError(
            f"the teacher is to be {_described(wanted)}, but {name} trains {_described(trained)}; name a config that "
            "trains it with --model.teacher.config, its weights with --model.teacher.weights, or the other network "
            "with --model.teacher.network."
        )


def _described(network: Namespace) -> str:
    values: dict[str, Any] = {**(network.get("init_args") or {})}
    of_weights = [name for name in sorted(values) if name not in (*FROM_DATA, *WHILE_TRAINING)]
    own = ", ".join(f"{name}={values[name]}" for name in of_weights)
    return f"{network.class_path.rpartition('.')[2]}({own})"


def check_target(path: Path, config: str, ending: str = ".pth") -> None:
    """Refuse a path of a teacher's weights that looks like a typing mistake, or that is not writable.

    Args:
        path: A file that does not exist.
        config: Name of the teacher's config.
        ending: How the name of the file that it trains ends.
    """
    train = f"python -m kd_lightning fit --config {config}"
    fix = f"name its file with --model.teacher.weights, or train it with `{train}`"
    if path.is_dir():
        raise UserError(f"the teacher's weights {path} are a folder; {fix}.")
    missing = next(part for part in (*reversed(path.parents), path) if not part.exists())
    if similar := _similar(missing):
        raise UserError(f"there are no teacher's weights {path}; did you mean {missing.parent / similar}? Else {fix}.")
    if path.suffix != ending:
        raise UserError(f"there are no teacher's weights {path}, and a trained file ends in {ending}; {fix}.")
    if not missing.parent.is_dir() or not os.access(missing.parent, os.W_OK):
        raise UserError(
            f"the teacher cannot be written to {path}, because {missing.parent} is not a writable folder; {fix}."
        )


def _similar(missing: Path) -> str | None:
    """Return a similar name beside a missing one; names that differ only in numbers do not count."""
    beside = sorted(missing.parent.iterdir()) if missing.parent.is_dir() else []
    names = {path.stem.lower(): path.name for path in beside if not path.name.startswith(".")}
    stem = missing.stem.lower()
    close = [name for name in get_close_matches(stem, names, cutoff=0.8) if _without_numbers(name, stem)]
    return names[close[0]] if close else None


def _without_numbers(*names: str) -> bool:
    """Return whether names differ in more than their numbers."""
    return len({re.sub(r"\d+", "", name) for name in names}) > 1 or len(set(names)) == 1
