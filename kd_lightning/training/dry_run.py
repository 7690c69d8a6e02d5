"""Dry runs: a fit up to its first step, before its teacher is trained, or a few steps; nothing is written."""

from contextlib import redirect_stdout, suppress
from io import StringIO
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from lightning.pytorch.loggers.logger import DummyLogger
from torch import Tensor

from kd_lightning.callbacks import LogContactSheet, LogHyperparameters, RunSummary, SaveOnInterrupt
from kd_lightning.callbacks.run_folder import RunFolder
from kd_lightning.callbacks.trainer_callbacks import callbacks_of
from kd_lightning.data import ImageDataModule
from kd_lightning.fast.callback import stop
from kd_lightning.tasks import Task
from kd_lightning.tasks.distill import Distill
from kd_lightning.training.save_config import SaveConfig

WRITES: tuple[type[Any], ...] = (
    *(Checkpoint, LogContactSheet, LogHyperparameters, ProgressBar, RunFolder, RunSummary, SaveConfig),
    SaveOnInterrupt,
)
"""Callbacks that write before the first step, or when a fit ends in an exception; they refuse nothing then."""


class StopDryRunError(Exception):
    """A dry run is complete."""


class EndAtFirstStep(Callback):
    """Ends a dry run when the losses of the first step are computed."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let Lightning run that step, without torch.compile, which takes long."""
        assert isinstance(pl_module, Task)
        pl_module.compiled = False
        pl_module.when_ready(lambda: stop(trainer))

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """End the dry run."""
        raise StopDryRunError

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """End where the user's task returns no loss."""
        raise StopDryRunError


class _LiveTeacher(Callback):
    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if isinstance(pl_module, Distill):
            pl_module.cache_teacher = False  # setup has checked whether its outputs can be cached


def dry_run(trainer: Trainer, task: Task, data: ImageDataModule, end: Callback) -> None:
    """Begin a fit and write nothing; whatever it refuses is raised.

    The teacher runs in every step: it may be untrained, and caching its outputs would take a pass over all images. The
    trainer and the task cannot be used again.

    Args:
        trainer: A trainer that has not run yet.
        task: The task; its teacher may be untrained.
        data: The data.
        end: Ends the fit by a ``StopDryRunError``.
    """
    kept = [callback for callback in callbacks_of(trainer, Callback) if not isinstance(callback, WRITES)]
    trainer.callbacks = [*kept, _LiveTeacher(), end]  # type: ignore[attr-defined]
    trainer.loggers = [DummyLogger() for _ in trainer.loggers]
    with redirect_stdout(StringIO()), suppress(StopDryRunError):  # the fit itself prints it again
        trainer.fit(task, datamodule=data)
