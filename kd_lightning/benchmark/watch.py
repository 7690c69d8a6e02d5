"""Clocks for the parts of a training step."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from time import perf_counter
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.optim import Optimizer

from kd_lightning.fast.reasons import per_batch_reason
from kd_lightning.tasks import Task
from kd_lightning.tasks.distill import Distill


def wait_for(device: torch.device) -> None:
    """Wait until a device has finished all launched work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Watch:
    """Sums the seconds of the named parts of a step; off, it makes no device wait.

    Args:
        device: Where the parts run.
        on: Whether it measures.
    """

    def __init__(self, device: torch.device, *, on: bool) -> None:
        self.device = device
        self.on = on
        self.seconds: dict[str, float] = defaultdict(float)

    def part(self, name: str) -> AbstractContextManager[None]:
        """Measure the block."""
        return self._part(name) if self.on else nullcontext()

    @contextmanager
    def _part(self, name: str) -> Iterator[None]:
        wait_for(self.device)
        started = perf_counter()
        yield
        wait_for(self.device)
        self.seconds[name] += perf_counter() - started

    @contextmanager
    def calls(self, owner: Any, method: str, name: str) -> Iterator[None]:
        """Measure the calls of an object's method while the block runs."""
        original = getattr(owner, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return original(*args, **kwargs)

        setattr(owner, method, timed)
        try:
            yield
        finally:
            delattr(owner, method)

    def teacher(self, task: Task) -> AbstractContextManager[None]:
        """Measure the teacher of a task that has one, while the block runs."""
        return self.calls(task, "teacher_outputs", "teacher") if isinstance(task, Distill) else nullcontext()


class EpochClock(Callback):
    """Measures the second epoch of a fit, and the parts of its steps if its watch is on; the first one warms up.

    Args:
        watch: Measures the parts.

    Attributes:
        seconds: Of the epoch.
        validation: Seconds from the last step to the epoch's end: a validation and all that Lightning does around it.
        plain: Why the fast path cannot run several steps in one call; ``None`` where it can.
    """

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.seconds = self.validation = 0.0
        self.plain: str | None = None
        self._wrapped, self._optimizer = ExitStack(), ExitStack()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Wrap the methods of all parts that the report names."""
        assert isinstance(pl_module, Task)
        self.plain = per_batch_reason(pl_module)
        if not self.watch.on:
            return
        for owner, method, name in (
            (trainer.train_dataloader, "gather", "data"),
            (pl_module.data, "on_after_batch_transfer", "data"),
            (pl_module, "training_step", "student"),
            (pl_module, "backward", "backward"),
        ):
            self._wrapped.enter_context(self.watch.calls(owner, method, name))
        self._wrapped.enter_context(self.watch.teacher(pl_module))
        self._wrapped.callback(trainer.optimizers[0].register_step_post_hook(lambda *_: self._optimizer.close()).remove)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Start the optimizer's clock; its own hook stops it."""
        self._optimizer.enter_context(self.watch.part("optimizer"))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        wait_for(self.watch.device)
        self.watch.seconds.clear()
        self._started = perf_counter()

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Take the time of the last step."""
        if trainer.is_last_batch:
            wait_for(self.watch.device)
            self._trained = perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        wait_for(self.watch.device)
        self.seconds = perf_counter() - self._started
        self.validation = perf_counter() - self._trained

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the wrapped methods."""
        self._wrapped.close()
