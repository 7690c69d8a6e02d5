"""Weight averages by Lightning's callbacks: checks, and the end of training."""

from typing import TYPE_CHECKING

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import (
    Checkpoint,
    ModelPruning,
    ProgressBar,
    StochasticWeightAveraging,
    WeightAveraging,
)
from torch import Size, nn

from kd_lightning.errors import UserError
from kd_lightning.networks.fusable import is_reparameterized
from kd_lightning.tasks.trainer_callbacks import callbacks_of

if TYPE_CHECKING:
    from kd_lightning.tasks.base import Task


def shape_averages(task: "Task") -> None:
    """Create averages again where losses have sized their buffers after them, such as CRD's memory of each image.

    Args:
        task: Its fit is set up.
    """
    shapes = _shapes(task)
    for callback in callbacks_of(task.trainer, WeightAveraging):
        average = callback._average_model
        if average is not None and _shapes(average.module) != shapes:
            callback.setup(task.trainer, task, "fit")


def _shapes(module: nn.Module) -> list[Size]:
    return [values.shape for values in (*module.parameters(), *module.buffers())]


def start_averages(task: "Task") -> None:
    """Move weight averages to the device of the weights, and refuse what would not be the network that is measured.

    Args:
        task: Its fit is about to start.

    Raises:
        UserError: An average never begins, or keeps the untrained statistics of normalization layers; or training
            resumes from weights that its end has changed.
    """
    if task.ended:
        raise UserError(
            f"{task.trainer.ckpt_path} was written after training had ended and a callback had changed the weights, so "
            "training cannot resume from it; start a new run without --ckpt_path."
        )
    _check_pruning(task)
    _check_renewed(task.trainer)
    for callback in callbacks_of(task.trainer, WeightAveraging):
        _check(task, callback)
        if callback._device is None and callback._average_model is not None:
            callback._average_model.to(task.device)  # Lightning creates it before it moves the weights to the GPU


def end_training(task: "Task") -> None:
    """Run the callbacks that change weights when training ends, where a checkpoint has nothing left to train.

    Lightning skips training then, with all that comes before and after it.

    Args:
        task: Its fit is over.
    """
    trainer = task.trainer
    if task.ended or not trainer.fit_loop.is_resuming:
        return
    callbacks = [callback for callback in callbacks_of(trainer, Callback) if _may_change_weights(callback)]
    for callback in callbacks:
        callback.on_train_start(trainer, task)
    for callback in callbacks:
        callback.on_train_end(trainer, task)
    task.ended = True


def _may_change_weights(callback: Callback) -> bool:
    """Return whether a callback may change weights when training ends."""
    ours = type(callback).__module__.startswith("kd_lightning.")
    return not (ours or _renews(callback) or isinstance(callback, Checkpoint | ProgressBar))


def _check_pruning(task: "Task") -> None:
    """Refuse masks that stay beside the weights, or prune factors whose product has no zeros."""
    for callback in callbacks_of(task.trainer, Callback):
        if isinstance(callback, ModelPruning) and not callback._make_pruning_permanent:
            raise UserError(
                f"{type(callback).__name__} would leave its masks in the network, which files do not contain; set "
                "make_pruning_permanent true."
            )
        if isinstance(callback, ModelPruning) and is_reparameterized(task.network):
            raise UserError(
                f"{type(callback).__name__} would prune the re-parameterized network and not the fused one; "
                "set --model.reparameterize 0, or leave the callback out."
            )


def _check_renewed(trainer: Trainer) -> None:
    """Refuse to resume in the middle of the pass that renews BatchNorm's statistics, which Lightning cannot do."""
    for callback in callbacks_of(trainer, Callback):
        if not _renews(callback) or not trainer.fit_loop.restarted_mid_epoch:
            continue
        if trainer.current_epoch == trainer.max_epochs:
            raise UserError(
                f"{trainer.ckpt_path} was written while {type(callback).__name__} renewed the statistics of BatchNorm, "
                "in the pass after the last epoch; give --ckpt_path a checkpoint of an epoch's end."
            )


def _renews(callback: Callback) -> bool:
    """Return whether a callback changes weights and statistics before the last pass, and nothing when training ends."""
    return isinstance(callback, StochasticWeightAveraging) and bool(callback._model_contains_batch_norm)


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
            f"{name} leaves out what is not a parameter, such as {buffers} of {type(task.network).__name__}, so that "
            "it would stay as it was before training; set use_buffers true."
        )
