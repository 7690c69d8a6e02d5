"""A fit is tried and leaves nothing: up to its first step before an hour is spent on its teacher, or a few steps."""

from contextlib import redirect_stdout, suppress
from io import StringIO
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from lightning.pytorch.loggers.logger import DummyLogger
from torch import Tensor

from kd_lightning.callbacks import LogContactSheet, RunSummary, SaveOnInterrupt
from kd_lightning.callbacks.run_folder import RunFolder
from kd_lightning.data import ImageDataModule
from kd_lightning.fast.callback import stop
from kd_lightning.tasks import Task
from kd_lightning.tasks.distill import Distill
from kd_lightning.training.save_config import SaveConfig

WRITES: tuple[type[Any], ...] = (
    *(Checkpoint, LogContactSheet, ProgressBar, RunFolder, RunSummary, SaveConfig, SaveOnInterrupt),
)
"""Callbacks that write before the first step, or when a fit ends in an exception; they refuse nothing then."""


class StopDryRunError(Exception):
    """A trial has seen what it wants to see."""


class EndAtFirstStep(Callback):
    """Ends a trial when the losses of the first step are there."""

    works_with_fast_path = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Have that step be Lightning's own, and of networks as they are: translating them takes long."""
        assert isinstance(pl_module, Task)
        pl_module.compiled = False
        pl_module.when_ready(lambda: stop(trainer))

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """End."""
        raise StopDryRunError

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """End where a task of the user's has no loss."""
        raise StopDryRunError


class _AskInEveryStep(Callback):
    works_with_fast_path = True

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if isinstance(pl_module, Distill):
            pl_module.cache_teacher = False  # setup has looked whether it can be remembered


def dry_run(trainer: Trainer, task: Task, data: ImageDataModule, end: Callback) -> None:
    """Begin a fit and write nothing; whatever it refuses is raised.

    The teacher is asked in every step, for what an untrained one says is not worth a pass over all images. The trainer
    and the task are of no use afterwards.

    Args:
        trainer: It has not run yet.
        task: Where it has a teacher, that need not be trained.
        data: The data.
        end: Ends the fit by a ``StopDryRunError``.
    """
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    callbacks[:] = [*(callback for callback in callbacks if not isinstance(callback, WRITES)), _AskInEveryStep(), end]
    trainer.loggers = [DummyLogger() for _ in trainer.loggers]
    with redirect_stdout(StringIO()), suppress(StopDryRunError):  # the fit itself says it all again
        trainer.fit(task, datamodule=data)
