"""Why Lightning has to see every batch, or why a step cannot become a CUDA graph: ends of sentences for people."""

import inspect
from typing import TYPE_CHECKING

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint, ProgressBar, Timer
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import SingleDeviceStrategy

from kd_lightning.data.base import ImageDataModule
from kd_lightning.data.loader import BatchLoader

if TYPE_CHECKING:
    from kd_lightning.tasks.base import Task

BATCH_HOOKS = (
    "on_train_batch_start",
    "on_train_batch_end",
    "on_before_backward",
    "on_after_backward",
    "on_before_zero_grad",
    "on_before_optimizer_step",
)
STEP_HOOKS = ("training_step", "optimizer_step", "optimizer_zero_grad", "lr_scheduler_step")
TRANSFER_HOOKS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
COPES = (LearningRateMonitor, ModelCheckpoint, ProgressBar, Timer)
"""Callbacks that are content with the batches that Lightning sees."""


def per_batch_reason(task: "Task", base: type) -> str | None:
    """Return why every batch has to go through Lightning; ``None`` where it need not.

    Args:
        task: What is trained; its trainer has just started.
        base: The class whose hooks the fast path knows.
    """
    trainer = task.trainer
    if not isinstance(trainer.strategy, SingleDeviceStrategy):
        return "several processes train together"
    if not isinstance(trainer.train_dataloader, BatchLoader):
        return f"the training images come from a {type(trainer.train_dataloader).__name__} and not from a BatchLoader"
    if getattr(trainer.precision_plugin, "scaler", None) is not None:
        return f"precision {trainer.precision} looks at the gradients of every step"
    if torch.is_anomaly_enabled():
        return "detect_anomaly looks at every step"
    if not isinstance(trainer.profiler, PassThroughProfiler):  # type: ignore[attr-defined]
        return "the profiler measures every step"
    optimizer = trainer.optimizers[0]
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is inspect.Parameter.empty:
        return f"{type(optimizer).__name__} evaluates the loss several times in a step"
    return _own_hook(task, base)


def _own_hook(task: "Task", base: type) -> str | None:
    """Return who has a hook that must be called for every batch."""
    watched: list[tuple[object, type, tuple[str, ...]]] = [
        (task, base, (*BATCH_HOOKS, *STEP_HOOKS)),
        (task, LightningModule, TRANSFER_HOOKS),
        (task.data, LightningDataModule, TRANSFER_HOOKS[:2]),
    ]
    callbacks: list[Callback] = task.trainer.callbacks  # type: ignore[attr-defined]
    watched += [(callback, Callback, BATCH_HOOKS) for callback in callbacks if not _copes(callback)]
    for owner, kind, hooks in watched:
        for hook in hooks:
            if getattr(type(owner), hook) is not getattr(kind, hook):
                return f"{type(owner).__name__} has its own {hook}"
    return None


def _copes(callback: Callback) -> bool:
    return isinstance(callback, COPES) or getattr(callback, "works_with_fast_path", False)


def no_capture_reason(task: "Task") -> str | None:
    """Return why a step that need not go through Lightning cannot become a CUDA graph; ``None`` where it can."""
    if task.device.type != "cuda":
        return "CUDA graphs need an NVIDIA GPU"
    waits = task.host_sync_reason()
    if waits is not None:
        return waits
    if type(task.data).on_after_batch_transfer is not ImageDataModule.on_after_batch_transfer:
        return f"{type(task.data).__name__} has its own on_after_batch_transfer"
    optimizer, schedules = task.trainer.optimizers[0], task.trainer.lr_scheduler_configs
    if any(getattr(schedule.scheduler, "cycle_momentum", False) for schedule in schedules):
        return "its schedule changes the momentum in every step; give it cycle_momentum: false"
    if not all("capturable" in group or group.get("fused") for group in optimizer.param_groups):
        return f"{type(optimizer).__name__} reads its learning rate on the host; where it knows fused: true, set that"
    return None
