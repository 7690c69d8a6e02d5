"""The callback that starts and stops the fast path."""

from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from kd_lightning.data.loader import BatchLoader
from kd_lightning.errors import UserError
from kd_lightning.fast.ahead import StepsAhead
from kd_lightning.fast.graph import capture_cuda, make_plain
from kd_lightning.fast.path import FastPath
from kd_lightning.fast.reasons import no_capture_reason, per_batch_reason
from kd_lightning.fast.step import OptimizerStep
from kd_lightning.tasks import Task


class TrainAhead(Callback):
    """Run most steps of a fit outside of Lightning's loop, as ``--model.fast`` sets; ``fit`` adds this callback.

    Weights, metrics, checkpoints and progress are those of Lightning's own loop. The fast path begins once the task is
    ready for its first step, and is off where any part of a step is not known to work with it.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the fast path once the task is ready."""
        if isinstance(pl_module, Task):
            pl_module.when_ready(lambda: start(pl_module))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave every step to Lightning again."""
        stop(trainer)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave every step to Lightning again."""
        stop(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Store plain numbers, so that a run on any device, fast or not, can resume from a checkpoint."""
        make_plain(checkpoint)


def start(task: Task) -> None:
    """Run most steps outside of Lightning's loop where that is known to change nothing; print so, or why not.

    Args:
        task: The trained task; its trainer has just started.

    Raises:
        UserError: The fast path is required but not possible.
    """
    if not is_wanted(task.fast, task.device):
        return
    has_graphs = is_gpu(task.device)
    reason = per_batch_reason(task)
    if reason is not None:
        _report(task, "one by one", reason)
        return
    reason = no_capture_reason(task)
    if has_graphs and reason is None:
        task.print("Steps: as a CUDA graph, many in one call.")
    elif has_graphs:
        _report(task, "many in one call, but not as a CUDA graph", str(reason))
    step = OptimizerStep(task)
    path = FastPath(step, capture_cuda if has_graphs and reason is None else None)
    step.loader.train_ahead = StepsAhead(task.trainer, path.train)


def is_wanted(fast: bool | Literal["auto"], device: torch.device) -> bool:
    """Return whether the fast path is requested; ``auto`` requests it on a GPU, as a CPU gains under a tenth."""
    return fast is True or (fast == "auto" and is_gpu(device))


def is_gpu(device: torch.device) -> bool:
    """Return whether CUDA graphs run on a device."""
    return device.type == "cuda"


def _report(task: Task, how: str, reason: str) -> None:
    if task.fast is True:
        raise UserError(f"--model.fast is true, but {reason}; set it to auto or change that.")
    task.print(f"Steps: {how}; {reason}.")


def stop(trainer: Trainer) -> None:
    """Leave every step to Lightning again."""
    if isinstance(trainer.train_dataloader, BatchLoader):
        trainer.train_dataloader.train_ahead = None
