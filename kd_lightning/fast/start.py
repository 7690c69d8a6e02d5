"""Starting and stopping the fast path of a fit."""

from typing import TYPE_CHECKING

from kd_lightning.data.loader import BatchLoader
from kd_lightning.errors import UserError
from kd_lightning.fast.ahead import StepsAhead
from kd_lightning.fast.graph import capture_cuda
from kd_lightning.fast.path import FastPath
from kd_lightning.fast.reasons import no_capture_reason, per_batch_reason
from kd_lightning.fast.step import OptimizerStep

if TYPE_CHECKING:
    from kd_lightning.tasks.base import Task


def start(task: "Task", base: type) -> None:
    """Have most steps done outside of Lightning's loop where that changes nothing, and say so, or why not.

    Args:
        task: What is trained; its trainer has just started.
        base: The class whose hooks the fast path knows.

    Raises:
        UserError: The fast path is asked for but not possible.
    """
    reason = per_batch_reason(task, base)
    if reason is not None:
        _report(task, "one by one", reason)
        return
    reason = no_capture_reason(task)
    if reason is None:
        task.print("Steps: as a CUDA graph, many in one call.")
    elif task.device.type == "cuda":
        _report(task, "many in one call, but not as a CUDA graph", reason)
    step = OptimizerStep(task)
    path = FastPath(step, None if reason else capture_cuda)
    step.loader.train_ahead = StepsAhead(task.trainer, path.train)


def _report(task: "Task", how: str, reason: str) -> None:
    if task.fast is True:
        raise UserError(f"--model.fast is true, but {reason}; set it to auto or change that.")
    task.print(f"Steps: {how}; {reason}.")


def stop(task: "Task") -> None:
    """Leave every step to Lightning again."""
    if isinstance(task.trainer.train_dataloader, BatchLoader):
        task.trainer.train_dataloader.train_ahead = None
