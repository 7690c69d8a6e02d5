"""Ctrl-C, SIGTERM and SLURM's SIGUSR1 save a checkpoint, so that no training is lost."""

import shlex
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from kd_lightning.callbacks.run_folder import run_folder
from kd_lightning.machine import stopping
from kd_lightning.machine.terminal import PROGRAM, command_text
from kd_lightning.wording import counted


class StoppedByUser(Exception):  # noqa: N818 - as KeyboardInterrupt, it is not an error
    """The user stopped a fit; the message names what is saved and the command that resumes.

    Args:
        number: The signal that stopped it.
        folder: The run's folder; its last checkpoint holds the training state. ``None`` where the run has none.
        saved: What that checkpoint holds, as a clause.
    """

    def __init__(self, number: int, folder: Path | None, saved: str) -> None:
        self.status = stopping.status(number)
        super().__init__(stopping.sentence(number, what_is_saved(folder, saved)))


def last_checkpoint(folder: Path) -> Path:
    """Return the path of a run's newest checkpoint."""
    return folder / "checkpoints" / "last.ckpt"


def what_is_saved(folder: Path | None, saved: str) -> str:
    """Return the end of a sentence: what a run's last checkpoint holds, and the command that goes on from it."""
    if folder is None or not last_checkpoint(folder).is_file():
        return f"nothing is saved yet; {stopping.AGAIN}" if stopping.is_command() else "nothing is saved yet."
    checkpoint, config = last_checkpoint(folder), folder / "config.yaml"
    if not stopping.is_command():
        return f'{saved}. Go on from there with trainer.fit(task, datamodule=data, ckpt_path="{checkpoint}").'
    if not config.is_file():
        goes_on = f"the same command and --ckpt_path {shlex.quote(str(checkpoint))}"
        return f"{saved}. Go on from there with {goes_on}{stopping.then()}"
    command = [PROGRAM, "fit", "--config", str(config), "--ckpt_path", str(checkpoint)]
    return f"{saved}. Go on from there with:\n{command_text(command)}{stopping.then()}"


class SaveOnInterrupt(Callback):
    """Answer Ctrl-C and SIGTERM by saving a checkpoint after the running step and stopping there.

    Resumed from it, a run on one CPU gives the weights that an undisturbed run gives, bit for bit. A second signal
    stops at once. Several processes agree after every step, so it does not matter which of them is signalled. A
    command also answers the signal by which SLURM announces the end of a job: SLURM runs it again.

    Attributes:
        record: The file that lists the folders of a job's runs, where SLURM may run the job again.
    """

    def __init__(self) -> None:
        self.record: Path | None = None
        self._requested = 0
        self._previous: dict[signal.Signals, Any] = {}
        self._folder: Path | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Set the resume hint that is printed when a fit is stopped at once."""
        if stage == "fit":
            self._requested = 0  # a fit that was stopped may have left it
            self._folder = run_folder(trainer)
            if self.record is not None and self._folder is not None and trainer.is_global_zero:
                self.record.parent.mkdir(parents=True, exist_ok=True)
                with self.record.open("a", encoding="utf-8") as file:
                    file.write(f"{self._folder.absolute()}\n")
            stopping.set_resume_hint(
                lambda: what_is_saved(self._folder, "what was reached at the end of the last epoch is saved")
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop at once until the first step."""
        stopping.reinstall_handlers()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop a validation outside of training at once; one inside of training ends with its epoch."""
        if not self._previous:
            stopping.reinstall_handlers()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop a test at once."""
        stopping.reinstall_handlers()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop after an epoch, whose checkpoint has just been written; otherwise listen during this one."""
        if number := self._agreed(trainer):
            raise StoppedByUser(number, self._folder, f"{counted(trainer.current_epoch, 'epoch')} saved")
        self._listen()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Listen, where training goes on in the middle of an epoch."""
        self._listen()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save and stop, if that was requested and the optimizer has stepped."""
        whole = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if not whole or trainer.is_last_batch:  # the epoch's end, validation and all, comes first
            return
        if number := self._agreed(trainer):
            if self._folder is not None:
                trainer.save_checkpoint(last_checkpoint(self._folder), weights_only=False)  # the optimizer too
            raise StoppedByUser(number, self._folder, f"{counted(trainer.global_step, 'step')} saved")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the handlers; stop here if that was requested in the last epoch."""
        self._restore()
        if number := self._agreed(trainer):
            raise StoppedByUser(number, self._folder, "all epochs are trained and saved, but nothing is tested")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Restore the handlers."""
        self._restore()

    def _agreed(self, trainer: Trainer) -> int:
        """Return the signal that any of the processes was sent, or 0."""
        if trainer.world_size == 1:
            return self._requested
        requested = torch.tensor(self._requested, device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(requested, reduce_op="max"))

    def _listen(self) -> None:
        if not self._previous and not self._requested and threading.current_thread() is threading.main_thread():
            numbers = stopping.listened_to()
            self._previous = {number: signal.signal(number, self._request_stop) for number in numbers}

    def _request_stop(self, number: int, frame: FrameType | None) -> None:
        if stopping.is_rank_zero():
            stopping.write("stopping after this step; a second signal stops at once")
        self._requested = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
