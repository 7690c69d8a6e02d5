"""What training sees, in TensorBoard."""

from typing import TYPE_CHECKING, cast

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from kd_lightning.data.contact_sheet import training_sheet

if TYPE_CHECKING:
    from kd_lightning.tasks import Task


class LogContactSheet(Callback):
    """Log a sheet of training images, as stored and as augmented, when a fit starts."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the sheet once, in the first process."""
        if not trainer.is_global_zero:
            return
        task = cast("Task", pl_module)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                sheet = np.asarray(training_sheet(task.data).convert("RGB"))
                logger.experiment.add_image("training images", sheet, dataformats="HWC")
