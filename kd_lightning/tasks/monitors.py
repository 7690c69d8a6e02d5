"""Checks of the metrics that schedules and callbacks monitor: each is measured, and has the right mode."""

from typing import TYPE_CHECKING

from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint

from kd_lightning.errors import UserError
from kd_lightning.tasks.epoch_metrics import Stage
from kd_lightning.tasks.trainer_callbacks import callbacks_of

if TYPE_CHECKING:
    from kd_lightning.tasks.base import Task

COUNTERS = ("epoch", "step")
"""Names that a checkpoint may monitor besides metrics."""


def check_mode(task: "Task", watcher: str, name: str, mode: str, option: str) -> None:
    """Refuse a mode in which the lowest accuracy or the highest loss is the best.

    Args:
        task: It has the metrics.
        watcher: Name of the class that monitors it.
        name: The metric.
        mode: Whether the lowest value (``min``) or the highest (``max``) is the best.
        option: The option that sets the mode, for the message.

    Raises:
        UserError: A metric of the task is monitored in the wrong mode.
    """
    stage, _, metric = name.rpartition("/")
    if stage not in ("train", "val"):
        return
    rises, falls = metric in task.accuracies(stage), metric in task.loss_names
    if (rises and mode != "max") or (falls and mode != "min"):
        better, right = ("higher", "max") if rises else ("lower", "min")
        raise UserError(f"{watcher} monitors {name} in mode {mode}, but {better} is better; set {option} to {right}.")


def check_monitor(task: "Task", watcher: str, name: str, option: str) -> None:
    """Refuse a metric that is never measured.

    Args:
        task: It has a trainer with data.
        watcher: Name of the class that monitors it.
        name: The metric.
        option: The option that sets the metric, for the message.

    Raises:
        UserError: It is never measured.
    """
    validates = task.data.has_val and task.trainer.limit_val_batches
    if name.startswith("val/") and not validates:
        raise UserError(
            f"{watcher} monitors {name}, but nothing is validated; set --data.val_size above 0, or {option} to "
            "train/loss."
        )
    stages: tuple[Stage, ...] = ("train", "val") if validates else ("train",)
    known = [str(key) for stage in stages for key in task.metrics(stage)]
    if name not in known and not _logs_more(task):
        raise UserError(f"{watcher} monitors {name}, which is not measured; set {option} to one of {', '.join(known)}.")


def check_callbacks(task: "Task") -> None:
    """Refuse callbacks that stop, or keep the best, by a metric that is never measured or in the wrong mode.

    Raises:
        UserError: There is one.
    """
    for callback in callbacks_of(task.trainer, Callback):
        if not isinstance(callback, EarlyStopping | ModelCheckpoint) or callback.monitor in (None, *COUNTERS):
            continue
        name, metric = type(callback).__name__, str(callback.monitor)
        forgiving = isinstance(callback, EarlyStopping) and not callback.strict
        own = not type(callback).__module__.startswith("kd_lightning.")
        if own and not forgiving:
            check_monitor(task, name, metric, "its monitor in --trainer.callbacks")
        check_mode(task, name, metric, callback.mode, "its mode in --trainer.callbacks")


def _logs_more(task: "Task") -> bool:
    """Return whether there is code, such as the user's own, that may log more metrics."""
    ours = ("kd_lightning.", "lightning.")
    known = all(type(owner).__module__.startswith(ours) for owner in (task, *callbacks_of(task.trainer, Callback)))
    return not known or bool(callbacks_of(task.trainer, LearningRateMonitor))
