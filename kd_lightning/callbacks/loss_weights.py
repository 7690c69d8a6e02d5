"""The weights of the losses in each epoch."""

from typing import TYPE_CHECKING, cast

from lightning.pytorch import Callback, LightningModule, Trainer

if TYPE_CHECKING:
    from kd_lightning.tasks import Task


class LossWeights(Callback):
    """Set the weights that the losses have in an epoch of a fit, and outside of it their full ones."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the weights of the losses."""
        is_fit = trainer.state.fn == "fit"
        cast("Task", pl_module).losses.set_epoch(trainer.current_epoch if is_fit else None)

    on_train_epoch_start = on_train_start  # a run that resumes in the middle of an epoch has only on_train_start
    on_validation_epoch_start = on_train_start  # an average has swapped the weights, too, as buffers
    on_test_epoch_start = on_train_start
