"""A line an epoch, which stays, and in a terminal a bar below it."""

import time
from math import ceil
from typing import TYPE_CHECKING, Any, cast

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ProgressBar, Timer

from kd_lightning.callbacks.trainer_callbacks import callbacks_of
from kd_lightning.losses import Loss
from kd_lightning.machine.progress import Bar, can_draw
from kd_lightning.machine.terminal import print_fitted
from kd_lightning.networks.fusable import fused
from kd_lightning.wording import counted, exact_duration, shown

if TYPE_CHECKING:
    from kd_lightning.tasks import Task


class EpochLines(ProgressBar):
    """Print what is trained, and a line an epoch: loss, accuracies, its time and the time left.

    Each line is printed once and stays, on a screen and in a log. A terminal also shows a bar of one row.

    Args:
        bar: Whether a terminal shows the bar.
    """

    def __init__(self, bar: bool = True) -> None:
        super().__init__()
        self._draws = bar and can_draw()
        self._prints = True
        self._bar = Bar()
        self._seconds: list[float] = []  # of the epochs of this fit
        self._started = 0.0
        self._validation: float | None = None  # accuracy in the running epoch
        self._ended: str | None = None  # the line of an epoch whose metrics are still to come

    @property
    def is_enabled(self) -> bool:
        """Whether Lightning prints by this callback."""
        return self._prints

    def disable(self) -> None:
        """Print nothing, as Lightning asks of all processes but the first."""
        self._prints = self._draws = False

    def enable(self) -> None:
        """Print lines again, without a bar."""
        self._prints = True

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print what is trained."""
        self._print(start_line(cast("Task", pl_module)))
        if trainer.world_size > 1:
            self._print(processes_line(trainer))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock; an epoch that is resumed in its middle has no start of its own."""
        self._seconds, self._ended, self._validation = [], None, None
        self._started = time.monotonic()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the line of the epoch before, whose metrics are complete now."""
        self._print_ended(trainer, self._left(trainer))
        self._started, self._validation = time.monotonic(), None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar, a few times a second."""
        if self._draws and self._bar.is_due:
            text = _joined(self._place(trainer), self._left(trainer, time.monotonic() - self._started))
            self._bar.show(text, batch_idx + 1, self.total_train_batches)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *more: int
    ) -> None:
        """Move the bar, a few times a second."""
        if self._draws and self._bar.is_due:
            self._bar.show("validation", batch_idx + 1, sum(trainer.num_val_batches))

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *more: int
    ) -> None:
        """Move the bar, a few times a second."""
        if self._draws and self._bar.is_due:
            self._bar.show("test", batch_idx + 1, sum(trainer.num_test_batches))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the accuracy for the epoch's line; print a line in the middle of an epoch."""
        if trainer.sanity_checking or trainer.state.fn != "fit":
            self._bar.hide()
            return
        self._validation = _metric(trainer, "val/accuracy")
        progress = trainer.fit_loop.epoch_loop.batch_progress
        if not (progress.is_last_batch or trainer.should_stop):
            place = f"{self._place(trainer)}, batch {progress.current.ready:,} of {trainer.num_training_batches:,}"
            self._print(_joined(place, _percent("val", self._validation)))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock; the task is about to log the metrics of the epoch."""
        self._seconds.append(time.monotonic() - self._started)
        self._ended = self._place(trainer)
        self._bar.hide()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the last epoch's line, and what stopped training early."""
        self._print_ended(trainer)
        self._bar.hide()
        for callback in callbacks_of(trainer, EarlyStopping):
            if callback.stopped_epoch:
                reason = f"EarlyStopping: {callback.monitor} does not get better"
                self._print(f"Stopped after epoch {trainer.current_epoch} by {reason}.")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Print the line of an epoch that has ended, and remove the bar."""
        self._print_ended(trainer)
        self._bar.hide()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Remove the bar."""
        self._bar.hide()

    def _print(self, text: str) -> None:
        if self._prints:
            print_fitted(shown(text))

    def _print_ended(self, trainer: Trainer, left: str = "") -> None:
        """Print the line of an epoch that has ended; all processes look at the metrics together."""
        if self._ended is None:
            return
        loss, accuracy = _metric(trainer, "train/loss"), _metric(trainer, "train/accuracy")
        more = [f"{name} {_number(value)}" for name, value in trainer.progress_bar_metrics.items() if _is_own(name)]
        place, self._ended = self._ended, None
        measured = ["" if loss is None else f"loss {_number(loss)}", _percent("train", accuracy)]
        measured += [_percent("val", self._validation), *more]
        self._print(_joined(place, *measured, exact_duration(self._seconds[-1]), left))

    def _place(self, trainer: Trainer) -> str:
        """Return the running epoch, counted from 1, and how many there are to be."""
        number, total = trainer.current_epoch + 1, _ends_after(trainer)
        return f"epoch {number}" if total is None else f"epoch {number:>{len(str(ceil(total)))}}/{ceil(total)}"

    def _left(self, trainer: Trainer, running: float = 0.0) -> str:
        """Return when training ends at the latest; empty before the first epoch's end, or where nothing ends it.

        Args:
            trainer: The trainer.
            running: Seconds of the running epoch.
        """
        total, done = _ends_after(trainer), trainer.current_epoch
        typical = sum(self._seconds) / max(1, len(self._seconds))
        ends = [typical * (total - done) - running] if total is not None and self._seconds else []
        ends += [timer.time_remaining() or 0.0 for timer in callbacks_of(trainer, Timer)]
        left = min(ends, default=0.0)
        return "" if left < 0.5 else f"{left:.0f} s left" if left < 59.5 else f"{exact_duration(left)} left"


def start_line(task: "Task") -> str:
    """Return what is trained: the network, its losses, its teacher and its data."""
    network, data, teacher = fused(task.network), task.data, getattr(task, "teacher", None)
    losses = " + ".join(_weighted(loss, task.found_weights() is not None) for loss in task.losses.named.values())
    size = counted(sum(values.numel() for values in network.parameters()), "parameter")
    count, unlabelled = len(data.train_rows()[1]), data.num_unlabelled
    images = counted(count, "training image")
    if unlabelled:
        images = f"{count - unlabelled:,} labelled and {unlabelled:,} unlabelled training images"
    learner = "Network" if teacher is None else "Student"
    of_teacher = "" if teacher is None else f" from {teacher.title}"
    return (
        f"{learner}: {type(network).__name__} ({size}) learns {losses}{of_teacher} on {data.name} "
        f"({data.num_classes} classes, {images})"
    )


def _weighted(loss: Loss, balances: bool) -> str:
    """Return a loss with its weight, unless that is 1, or will be found."""
    is_found = balances and loss.learns_from_teacher and loss.full_weight
    return type(loss).__name__ if is_found or loss.full_weight == 1 else f"{loss.full_weight:g} {type(loss).__name__}"


def processes_line(trainer: Trainer) -> str:
    """Return how many processes train, and the images of a step, as ``2 processes, 128 images each, 256 a step``."""
    batches, size = trainer.accumulate_grad_batches, cast("Task", trainer.lightning_module).data.batch_size
    each = f"{counted(size, 'image')} each" if batches == 1 else f"{batches} batches of {counted(size, 'image')} each"
    return f"Training: {trainer.world_size} processes, {each}, {trainer.world_size * batches * size:,} a step."


def _ends_after(trainer: Trainer) -> float | None:
    """Return how many epochs the trainer's limits allow, a fraction where steps are limited; ``None`` without any."""
    ends = [] if trainer.max_epochs in (None, -1) else [float(trainer.max_epochs or 0)]
    steps = ceil(trainer.num_training_batches / trainer.accumulate_grad_batches)
    ends += [] if trainer.max_steps == -1 else [trainer.max_steps / steps]
    return min(ends, default=None)


def _metric(trainer: Trainer, name: str) -> float | None:
    value = trainer.callback_metrics.get(name)
    return None if value is None else float(value)


def _is_own(name: str) -> bool:
    """Return whether a metric is one that a user's own task shows in progress bars."""
    return name not in ("train/loss", "train/accuracy", "val/accuracy") and not name.startswith("test/")


def _number(value: float) -> str:
    return f"{float(value):.3g}"


def _percent(name: str, share: float | None) -> str:
    return "" if share is None else f"{name} {100 * share:.1f} %"


def _joined(*parts: str) -> str:
    return "  ".join(filter(None, parts))
