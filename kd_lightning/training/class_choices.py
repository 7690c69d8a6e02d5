"""The classes that an option takes, for the message about one that it does not take."""

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import lightning.pytorch.callbacks
import lightning.pytorch.loggers
import torch.optim.lr_scheduler
from lightning.pytorch import Callback

from kd_lightning.data import ImageDataModule
from kd_lightning.data.augment import Augmentation
from kd_lightning.losses import Loss
from kd_lightning.networks import Network
from kd_lightning.tasks import Task
from kd_lightning.teacher import AnyTeacher
from kd_lightning.training.suggest import meant_classes, names_of

CHOICES: dict[str, type[Any]] = {
    "model": Task,
    "network": Network,
    "teacher": AnyTeacher,
    "losses": Loss,
    "data": ImageDataModule,
    "augment": Augmentation,
    "callbacks": Callback,
}
"""The base class of what a key takes: an unknown class name is answered with the known ones."""

LISTED = {
    "model": "tasks",
    "network": "networks",
    "teacher": "teachers",
    "losses": "losses",
    "data": "data",
    "augment": "augmentations",
}
"""The kinds that ``list`` shows."""

ENDINGS = {"network": "Network", "data": "DataModule"}
"""What many names end in, and people leave out."""

LIBRARIES: dict[str, ModuleType] = {
    "optimizer": torch.optim,
    "lr_scheduler": torch.optim.lr_scheduler,
    "callbacks": lightning.pytorch.callbacks,
    "logger": lightning.pytorch.loggers,
}
"""Modules whose classes a key takes by their bare names."""

OURS = {"optimizer": ("MuonAdamW", "SAM"), "lr_scheduler": ("OneCycle",)}
"""Classes of this package beside those of a library."""


def choices(option: str, words: list[str], value: str) -> str:
    """Return a clause with the names that were probably meant, or where all are."""
    key = option.rpartition(".")[2]
    base = CHOICES.get(key)
    offered = sorted({kind.__name__ for kind in _concrete(base)}) if base else []
    kinds = [(name, "", "") for name in (*words, *_of_library(key))]
    if base:
        kinds += [(kind.__name__, getattr(kind, "short", ""), ENDINGS.get(key, "")) for kind in _concrete(base)]
    if meant := meant_classes(value, names_of(kinds)):
        return f"; did you mean {' or '.join(meant)}?"
    known = list(dict.fromkeys([*words, *offered]))
    if key in LISTED:
        first = f"choose {' or '.join(words)}; " if words else ""
        return f"; {first}`kd-lightning list {LISTED[key]}` shows all, and your own has its import path"
    first = f"choose one of {', '.join(known)}, or " if known else ""
    return f"; {first}give an import path such as my_package.MyClass"


def _of_library(key: str) -> list[str]:
    """Return the names of a library's classes that an option takes, after those of ours beside them."""
    classes = {} if (module := LIBRARIES.get(key)) is None else vars(module)
    return [*OURS.get(key, ()), *(name for name, value in classes.items() if isinstance(value, type))]


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
