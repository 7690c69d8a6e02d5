"""The checkpoints that every fit keeps."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from kd_lightning.callbacks.averages import Averages
from kd_lightning.callbacks.trainer_callbacks import callbacks_of
from kd_lightning.files import atomic_write
from kd_lightning.networks.fusable import fused
from kd_lightning.networks.torch_file import read_file
from kd_lightning.networks.weights import REFUSED_KEY, read_weights

if TYPE_CHECKING:
    from kd_lightning.tasks import Task


class KeepCheckpoint(ModelCheckpoint):
    """A checkpoint that is replaced by the next one of its kind.

    It is a class of its own, so that Lightning tells it from a user's own ``ModelCheckpoint``.

    Args:
        name: The file's name without its ending.
        options: Of ``ModelCheckpoint``.
    """

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(filename=name, enable_version_counter=False, **options)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep no best checkpoint where nothing validates."""
        if self.monitor is None or any(trainer.num_val_batches):
            super().on_train_epoch_end(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the last epoch's again where a callback has changed the weights since, such as to an average."""
        super().on_train_end(trainer, pl_module)
        if self.monitor is not None or not self.best_model_path:
            return
        if trainer.strategy.broadcast(self._differs(trainer, pl_module)):
            for averages in callbacks_of(trainer, Averages):
                averages.ended = True
            trainer.save_checkpoint(self.best_model_path)

    def _differs(self, trainer: Trainer, pl_module: LightningModule) -> bool:
        if not trainer.is_global_zero:
            return False
        saved, _ = read_weights(self.best_model_path)
        own = fused(cast("Task", pl_module).network).state_dict()
        return own.keys() != saved.keys() or not all(torch.equal(saved[name], own[name].cpu()) for name in own)

    def refuse(self, reason: str) -> None:
        """Mark the checkpoint as unfit for prediction; training can go on from it."""
        if self.best_model_path:
            content = read_file(Path(self.best_model_path)) | {REFUSED_KEY: reason}
            with atomic_write(self.best_model_path) as temporary:
                torch.save(content, temporary)
