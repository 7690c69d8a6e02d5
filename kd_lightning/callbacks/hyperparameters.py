"""The hyperparameters of a run, read from what it trains, under flat names."""

import inspect
from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Trainer

from kd_lightning.losses import Loss
from kd_lightning.networks import Network
from kd_lightning.wording import shown

if TYPE_CHECKING:
    from kd_lightning.tasks import Task
    from kd_lightning.teacher import AnyTeacher

Value = bool | int | float | str

SPEED = frozenset(
    {
        *("fast", "compiled", "cache_teacher", "eval_batch_size", "num_workers"),
        *("foreach", "capturable", "differentiable", "fused", "maximize"),
        *("last_epoch", "verbose"),
    }
)
"""Options that change how fast a run is, or nothing, and not what it learns."""

OF_DATA = frozenset({"num_classes", "in_channels", "image_size"})
"""Arguments that every network takes from the data."""


def hyperparameters(task: "Task") -> dict[str, Value]:
    """Return what a run is trained with, such as ``losses.kd.temperature``: plain values that every logger stores.

    Args:
        task: The task of a fit whose optimizer is made.
    """
    teacher: AnyTeacher | None = getattr(task, "teacher", None)  # Distill has one
    found = {"task": type(task).__name__, **_options("task", task)}
    found |= _network("network", task.network)
    if teacher is not None:
        for name, network in teacher.named_networks().items():
            found |= _network(f"teacher.{name}" if name else "teacher", network)
        found |= {"teacher.weights": shown(teacher.weights or "none")}
        found |= _plain("teacher", {} if teacher.info is None else {"epochs": teacher.info.epochs})
    for name, loss in task.losses.named.items():
        found |= _described(f"losses.{name}", loss)
    found |= _training(task.trainer)
    return found | _described("data", task.data) | {"data": task.data.name, "data.image_size": task.data.image_size}


def _training(trainer: Trainer) -> dict[str, Value]:
    """Return the optimizer, its schedule, the length of the run, and the random seed."""
    optimizer = trainer.optimizers[0]
    found = {"optimizer": type(optimizer).__name__, **_plain("optimizer", optimizer.defaults)}
    for config in trainer.lr_scheduler_configs:
        found |= _described("lr_scheduler", config.scheduler)
    names = ("max_epochs", "precision", "accumulate_grad_batches", "gradient_clip_val")
    found |= _plain("trainer", {name: getattr(trainer, name) for name in names})
    found |= {"trainer.max_steps": trainer.max_steps} if trainer.max_steps > 0 else {}
    return found | {"seed": storable(torch.initial_seed())}


def _network(name: str, network: Network) -> dict[str, Value]:
    arguments = {key: value for key, value in network.arguments.items() if key not in OF_DATA}
    return {name: type(network).__name__, **_plain(name, arguments)}


def _described(name: str, owner: object) -> dict[str, Value]:
    return {name: type(owner).__name__, **_options(name, owner)}


def _options(prefix: str, owner: object) -> dict[str, Value]:
    """Return the constructor's arguments, those of its bases included, that an object keeps under their names."""
    names = dict.fromkeys(name for base in type(owner).__mro__ for name in _arguments(base))
    values = {name: vars(owner)[name] for name in names if name in vars(owner)}
    return _plain(prefix, values | ({"weight": owner.full_weight} if isinstance(owner, Loss) else {}))


def _arguments(kind: type) -> list[str]:
    return list(inspect.signature(kind.__init__).parameters) if "__init__" in vars(kind) else []  # type: ignore[misc]


def _plain(prefix: str, values: dict[str, Any]) -> dict[str, Value]:
    """Return the plain values by their full names, sequences as text."""
    found = dict[str, Value]()
    for name, value in values.items():
        if isinstance(value, list | tuple | Counter):  # a schedule's milestones are a Counter
            value = ", ".join(map(_short, value)) or None
        if isinstance(value, bool | int | float | str) and name not in SPEED:
            found[f"{prefix}.{name}"] = storable(value)
    return found


def _short(value: object) -> str:
    return str(value) if isinstance(value, bool | int | float | str) else type(value).__name__


def storable(value: Value) -> Value:
    """Return a value that TensorBoard can store: no integer from 2^53 on, no lone surrogate."""
    if isinstance(value, str):
        return shown(value)
    return str(value) if isinstance(value, int) and abs(value) >= 2**53 else value
