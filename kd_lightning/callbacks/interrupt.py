"""Ctrl-C that loses nothing."""

import signal
from pathlib import Path
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from kd_lightning.callbacks.run_folder import run_folder


class StoppedByUser(Exception):  # noqa: N818 - as KeyboardInterrupt, it is no error
    """The user stopped a fit; the message says what is saved and how to go on from there.

    Args:
        folder: The run's folder; its last checkpoint is what was reached.
    """

    def __init__(self, folder: Path) -> None:
        checkpoint = last_checkpoint(folder)
        again = f"python -m kd_lightning fit --config {folder}/config.yaml --ckpt_path {checkpoint}"
        saved = f"what was reached is saved. Go on from there with:\n  {again}"
        super().__init__(f"Stopped; {saved if checkpoint.is_file() else 'nothing was reached yet.'}")


def last_checkpoint(folder: Path) -> Path:
    """Return the path of a run's newest checkpoint."""
    return folder / "checkpoints" / "last.ckpt"


class SaveOnInterrupt(Callback):
    """Answer Ctrl-C by saving a checkpoint behind the running step and stopping there.

    Resumed from it, a run on one CPU gives the weights that an undisturbed run gives, bit for bit. A second Ctrl-C
    stops at once. With several processes Lightning's own handling stands, and what is saved is the last epoch.
    """

    works_with_fast_path = True

    def __init__(self) -> None:
        self._asked = False
        self._previous: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over Ctrl-C while training runs."""
        if trainer.world_size == 1:
            self._previous = signal.signal(signal.SIGINT, self._ask)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        print("\nstopping behind this step; press Ctrl-C again to stop at once", flush=True)
        self._asked = True
        signal.signal(signal.SIGINT, self._previous)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save and stop, if that was asked for and the step is whole."""
        whole = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if self._asked and whole and not trainer.is_last_batch:  # the epoch's end, validation and all, comes first
            folder = run_folder(trainer)
            trainer.save_checkpoint(last_checkpoint(folder), weights_only=False)  # the optimizer too
            raise StoppedByUser(folder)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop behind an epoch, whose checkpoint has just been written."""
        if self._asked:
            raise StoppedByUser(run_folder(trainer))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give Ctrl-C back."""
        self._restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Give Ctrl-C back."""
        self._restore()

    def _restore(self) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None
