"""Callbacks of Lightning that change the weights: what is measured, saved and resumed is what they give."""

from typing import TYPE_CHECKING, Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import (
    Checkpoint,
    ModelPruning,
    ProgressBar,
    StochasticWeightAveraging,
    WeightAveraging,
)
from torch import Size, nn

from kd_lightning.callbacks.trainer_callbacks import callbacks_of
from kd_lightning.errors import UserError
from kd_lightning.networks.fusable import is_reparameterized

if TYPE_CHECKING:
    from kd_lightning.tasks import Task


class Averages(Callback):
    """Check weight averages and pruning before the first step, and apply them where training has already ended.

    Attributes:
        ended: Whether a callback has changed the weights when training ended; checkpoints keep it.
    """

    def __init__(self) -> None:
        self.ended = False

    def state_dict(self) -> dict[str, Any]:
        """Return whether training has ended."""
        return {"ended": self.ended}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Read whether training had ended."""
        self.ended = state_dict["ended"]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begin a run, before a checkpoint is read."""
        self.ended = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move averages to the device of the weights, and refuse what would not be the network that is measured.

        Raises:
            UserError: An average never begins, or keeps the untrained statistics of normalization layers; or training
                resumes from weights that its end has changed.
        """
        task = cast("Task", pl_module)
        if self.ended:
            raise UserError(
                f"{trainer.ckpt_path} was written after training had ended and a callback had changed the weights, so "
                "training cannot resume from it; start a new run without --ckpt_path."
            )
        for callback in callbacks_of(trainer, Callback):
            _check_pruning(task, callback)
            _check_renewed(trainer, callback)
        for average in callbacks_of(trainer, WeightAveraging):
            _check(task, average)
            if average._device is None and average._average_model is not None:
                average._average_model.to(task.device)  # Lightning creates it before it moves the weights to the GPU

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Run the callbacks that change weights when training ends, where a checkpoint has nothing left to train.

        Lightning skips training then, with all that comes before and after it.
        """
        if self.ended or not trainer.fit_loop.is_resuming:
            return
        callbacks = [callback for callback in callbacks_of(trainer, Callback) if _may_change_weights(callback)]
        for callback in callbacks:
            callback.on_train_start(trainer, pl_module)
        for callback in callbacks:
            callback.on_train_end(trainer, pl_module)
        self.ended = True


def end_training(trainer: Trainer) -> None:
    """Let ``Averages`` act before another callback's ``on_fit_end`` writes the weights."""
    for callback in callbacks_of(trainer, Averages):
        callback.on_fit_end(trainer, trainer.lightning_module)


def renew_averages(trainer: Trainer) -> None:
    """Create averages again where losses have sized their buffers after them, such as CRD's memory of each image."""
    shapes = _shapes(trainer.lightning_module)
    for callback in callbacks_of(trainer, WeightAveraging):
        average = callback._average_model
        if average is not None and _shapes(average.module) != shapes:
            callback.setup(trainer, trainer.lightning_module, "fit")


def _shapes(module: nn.Module) -> list[Size]:
    return [values.shape for values in (*module.parameters(), *module.buffers())]


def _may_change_weights(callback: Callback) -> bool:
    """Return whether a callback may change weights when training ends."""
    ours = type(callback).__module__.startswith("kd_lightning.")
    return not (ours or _renews(callback) or isinstance(callback, Checkpoint | ProgressBar))


def _check_pruning(task: "Task", callback: Callback) -> None:
    """Refuse masks that stay beside the weights, or prune factors whose product has no zeros."""
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


def _check_renewed(trainer: Trainer, callback: Callback) -> None:
    """Refuse to resume in the middle of the pass that renews BatchNorm's statistics, which Lightning cannot do."""
    in_pass = trainer.fit_loop.restarted_mid_epoch and trainer.current_epoch == trainer.max_epochs
    if in_pass and _renews(callback):
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
