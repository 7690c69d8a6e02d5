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
    """Sums the seconds of the named parts of a step; off, it takes no time and makes no device wait.

    Args:
        device: Where the parts run.
        on: Whether it measures.
    """

    def __init__(self, device: torch.device, *, on: bool = True) -> None:
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

    @contextmanager
    def teacher(self, task: Task) -> Iterator[None]:
        """Measure the teacher of a task that has one."""
        with self.calls(task, "teacher_outputs", "teacher") if isinstance(task, Distill) else nullcontext():
            yield

    def restart(self) -> None:
        """Clear the measured seconds."""
        self.seconds.clear()


class EpochClock(Callback):
    """Measures the second epoch of a fit, and the parts of its steps if its watch is on; the first one warms up.

    Args:
        watch: Measures the parts.

    Attributes:
        seconds: Of the epoch.
    """

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self.seconds = 0.0
        self._stack = ExitStack()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Wrap the methods of all parts that the report names."""
        assert isinstance(pl_module, Task)
        if not self.watch.on:
            return
        for owner, method, name in (
            (trainer.train_dataloader, "gather", "data"),
            (pl_module.data, "on_after_batch_transfer", "data"),
            (pl_module, "training_step", "student"),
            (pl_module, "backward", "backward"),
        ):
            self._stack.enter_context(self.watch.calls(owner, method, name))
        self._stack.enter_context(self.watch.teacher(pl_module))
        hook = trainer.optimizers[0].register_step_post_hook(lambda *_: self._optimizer.close())
        self._stack.callback(hook.remove)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Start the optimizer's clock; its own hook stops it."""
        self._optimizer = ExitStack()
        self._optimizer.enter_context(self.watch.part("optimizer"))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        wait_for(self.watch.device)
        self.watch.restart()
        self._started = perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock."""
        wait_for(self.watch.device)
        self.seconds = perf_counter() - self._started

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore the wrapped methods."""
        self._stack.close()


class AsksWhy(Callback):
    """Records, when a fit starts, why the fast path cannot run several steps in one call.

    Attributes:
        reason: The reason; ``None`` where it can.
    """

    def __init__(self) -> None:
        self.reason: str | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record the reason."""
        assert isinstance(pl_module, Task)
        self.reason = per_batch_reason(pl_module)


class ValidationClock(Callback):
    """Measures the last validation of a fit, and all that Lightning does around it before training goes on.

    Args:
        device: Where it runs.

    Attributes:
        seconds: Of the validation.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds = 0.0

    def on_train_batch_end(self, *_: Any) -> None:
        """Start the clock: the validation follows the epoch's last batch."""
        wait_for(self.device)
        self._started = perf_counter()

    def on_train_epoch_end(self, *_: Any) -> None:
        """Stop the clock."""
        wait_for(self.device)
        self.seconds = perf_counter() - self._started
