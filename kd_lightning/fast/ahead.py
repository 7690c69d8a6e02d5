"""Training ahead of Lightning, up to the last step before anything that Lightning does between steps."""

from collections.abc import Callable, Iterator, Sequence
from math import ceil
from time import monotonic

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from torch import Tensor

from kd_lightning.callbacks import LogGradientNorms

SECONDS = 0.2
"""Seconds that Lightning waits, and with it Ctrl-C and the progress bar."""

AccumulationGroups = Iterator[Sequence[Tensor]]
"""Yields accumulation groups: the batches of one optimizer step, as rows of the data set ``(B,)``."""

Train = Callable[[AccumulationGroups, Callable[[], None]], None]
"""Trains on accumulation groups and calls its second argument after every optimizer step."""


class StepsAhead:
    """Train on batches before Lightning sees them.

    The batch loader calls it with what is left of the epoch. It trains on whole accumulation groups (of more than one
    batch where gradients are accumulated) and advances Lightning's progress counters: batches, optimizer steps,
    schedules. The last group before a validation, a checkpoint or the epoch's end is left to Lightning, with all
    that it does then.

    Args:
        trainer: The trainer that runs.
        train: Trains on accumulation groups.
    """

    def __init__(self, trainer: Trainer, train: Train) -> None:
        self.trainer = trainer
        self.train = train
        self._steps = 0

    @property
    def group_size(self) -> int:
        """Batches of an optimizer step; a callback may change it between epochs."""
        return self.trainer.accumulate_grad_batches

    def __call__(self, batches: Sequence[Tensor]) -> int:
        """Train on the first of the batches (rows, ``(B,)`` each) and return on how many; there may be none."""
        self._steps = 0
        self.train(self._groups(batches, self.steps_left()), self._advance_progress)
        return self._steps * self.group_size

    def _groups(self, batches: Sequence[Tensor], count: int) -> AccumulationGroups:
        """Yield up to ``count`` groups, as many as Lightning can wait for."""
        end = monotonic() + SECONDS
        for start in range(0, count * self.group_size, self.group_size):
            if monotonic() > end:
                return
            yield batches[start : start + self.group_size]

    def steps_left(self) -> int:
        """Return the optimizer steps before the next one that is left to Lightning, 0 or more."""
        trainer, loop = self.trainer, self.trainer.fit_loop.epoch_loop
        done = loop.batch_progress.current.ready
        if trainer.should_stop or done % self.group_size:  # Lightning is about to stop, or is inside a group
            return 0
        batches = [trainer.num_training_batches - done]
        if isinstance(trainer.val_check_batch, int):
            counted = loop.batch_progress.total.ready if trainer.check_val_every_n_epoch is None else done
            batches.append(_until(trainer.val_check_batch, counted))
        steps = [ceil(count / self.group_size) for count in batches]
        if trainer.max_steps != -1:
            steps.append(trainer.max_steps - trainer.global_step)
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        for callback in callbacks:
            if isinstance(callback, ModelCheckpoint) and callback._every_n_train_steps > 0:
                steps.append(_until(callback._every_n_train_steps, trainer.global_step))
            if isinstance(callback, LearningRateMonitor) and trainer.log_every_n_steps > 0:  # type: ignore[attr-defined]
                steps.append(_until(trainer.log_every_n_steps, loop._batches_that_stepped))  # type: ignore[attr-defined]
            if isinstance(callback, LogGradientNorms):
                steps.append(_until(callback.every_n_steps, trainer.global_step - 1))  # the next one may be due
        return max(0, min(steps) - 1)

    def _advance_progress(self) -> None:
        """Advance Lightning's progress counters by an optimizer step, as its own loops do."""
        fit_loop = self.trainer.fit_loop
        loop, fetcher = fit_loop.epoch_loop, fit_loop._data_fetcher
        assert fetcher is not None
        fetcher.fetched += self.group_size
        loop.batch_progress.increment_by(self.group_size)
        progress = loop.automatic_optimization.optim_progress.optimizer
        progress.zero_grad.increment_by(1)
        progress.step.increment_by(1)
        loop.update_lr_schedulers("step", update_plateau_schedulers=False)
        loop.update_lr_schedulers("step", update_plateau_schedulers=True)
        loop._batches_that_stepped += 1
        self._steps += 1


def _until(every: int, reached: int) -> int:
    """Return the distance to the next multiple."""
    return every - reached % every
