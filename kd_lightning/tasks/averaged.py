"""Averages of the weights, by Lightning's callbacks: what they leave out, and must not."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import WeightAveraging

from kd_lightning.errors import UserError

if TYPE_CHECKING:
    from kd_lightning.tasks.base import Task


def start_averages(task: "Task") -> None:
    """Let averages of the weights lie where the weights do, and refuse those that would be none.

    Args:
        task: Its fit is about to start.

    Raises:
        UserError: An average never begins, or leaves the statistics of normalization layers as they were untrained.
    """
    for callback in _averages(task.trainer):
        _check(task, callback)
        if callback._device is None and callback._average_model is not None:
            callback._average_model.to(task.device)  # Lightning has made it before the weights came to the GPU


def _check(task: "Task", callback: WeightAveraging) -> None:
    name, steps = type(callback).__name__, task.trainer.estimated_stepping_batches
    start = getattr(callback, "update_starting_at_step", None) or 0
    if start >= steps:
        raise UserError(
            f"{name} begins at step {start}, but the run has {steps:.0f}, so that an untrained network would be kept; "
            "leave update_starting_at_step out, or lower it."
        )
    buffers = next((buffer for buffer, _ in task.network.named_buffers()), None)
    if not callback._use_buffers and buffers is not None:
        raise UserError(
            f"{name} leaves out what is no parameter, as {buffers} of {type(task.network).__name__} is, so that it "
            "would be kept as it was before training; set use_buffers true."
        )


def check_goes_on(trainer: Trainer, checkpoint: Mapping[str, Any]) -> None:
    """Refuse to go on with the average of the weights in place of the weights; what is measured is the average.

    Args:
        trainer: It loads a checkpoint.
        checkpoint: The checkpoint.

    Raises:
        UserError: The checkpoint is of a run with an average, and this run has none.
    """
    if trainer.state.fn == "fit" and "current_model_state" in checkpoint and not _averages(trainer):
        raise UserError(
            f"{trainer.ckpt_path} is of a run that averages its weights, and holds the average in their place; add the "
            "callback of that run, such as --trainer.callbacks+=EMAWeightAveraging, or start a new run."
        )


def _averages(trainer: Trainer) -> list[WeightAveraging]:
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return [callback for callback in callbacks if isinstance(callback, WeightAveraging)]
