"""A training step as a CUDA graph: launched once, and not kernel by kernel from Python."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from kd_lightning.fast.ahead import AccumulationGroups
from kd_lightning.fast.step import OptimizerStep
from kd_lightning.tasks.step import Step

SLOTS = 32
"""Steps whose outputs update the metrics at once."""

WARM_UP = 3
"""Steps before a capture: they fill the optimizer's state, caches and tables, and load the GPU's kernels."""

Capture = Callable[[Callable[[], None]], Callable[[], None]]
"""Turns a function into one that repeats its work on the same memory."""


def capture_cuda(function: Callable[[], None]) -> Callable[[], None]:
    """Record a function's GPU work without running it, and return the function that replays it."""
    graph = torch.cuda.CUDAGraph()
    stream = _side_stream(torch.cuda.current_device())
    with (
        torch.cuda.stream(torch.cuda.current_stream()),  # an aborted capture does not restore it
        torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"),
    ):
        function()
    return graph.replay


@contextmanager
def warm_up_stream(device: torch.device) -> Iterator[None]:
    """Run the block's GPU work on the stream of captures, so that the memory that steps allocate belongs to it."""
    if device.type != "cuda":
        yield
        return
    stream, current = _side_stream(torch.cuda.current_device()), torch.cuda.current_stream()
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        yield
    current.wait_stream(stream)


@cache
def _side_stream(device: int) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


def make_capturable(optimizer: Optimizer, device: torch.device) -> list[Tensor]:
    """Move an optimizer's changing values to the device's memory: counts of steps and learning rates.

    Returns:
        The learning rate of each group, a scalar.
    """
    for group in optimizer.param_groups:
        if "capturable" in group:
            group["capturable"] = device.type == "cuda"
        group["lr"] = torch.as_tensor(group["lr"], dtype=torch.float32, device=device)
    for state in optimizer.state.values():  # a checkpoint's
        if isinstance(state, dict) and isinstance(state.get("step"), Tensor):
            state["step"] = state["step"].to(device)
    optimizer._warned_capturable_if_run_uncaptured = True  # some steps run uncaptured
    return [group["lr"] for group in optimizer.param_groups]


def keep_rates(optimizer: Optimizer, rates: list[Tensor]) -> None:
    """Write learning rates where a graph reads them; torch's schedules do so, others replace the tensors by numbers."""
    for group, rate in zip(optimizer.param_groups, rates, strict=False):  # new groups have none yet
        if group["lr"] is not rate:
            rate.fill_(group["lr"])
            group["lr"] = rate


def make_plain(checkpoint: dict[str, Any]) -> None:
    """Undo ``make_capturable`` in a checkpoint, so that a run on any device, fast or not, can resume from it."""
    for optimizer in checkpoint.get("optimizer_states", ()):
        for group in optimizer["param_groups"]:
            group["lr"] = float(group["lr"])
            if "capturable" in group:
                group["capturable"] = False
    for scheduler in checkpoint.get("lr_schedulers", ()):
        if "_last_lr" in scheduler:
            scheduler["_last_lr"] = [float(rate) for rate in scheduler["_last_lr"]]


class CapturedStep:
    """Train on accumulation groups by replaying one captured optimizer step, after a few that warm up.

    Its inputs (rows of the data set, the epoch) are read from memory at fixed addresses, and its outputs go to slots
    at fixed addresses, many of which update the metrics at once. Schedules write the learning rate between replays;
    dropout and random augmentations draw new numbers in each.

    Args:
        step: The step to capture; all its data must be on the device.
        capture: Captures a function.
    """

    def __init__(self, step: OptimizerStep, capture: Capture) -> None:
        self.step = step
        self.capture = capture
        device, batch_size = step.task.device, step.loader.batch_size
        self.rows = torch.zeros(SLOTS, step.group_size, batch_size, dtype=torch.int64, device=device)
        self.slot = torch.zeros(1, dtype=torch.int64, device=device)
        self.epoch = torch.zeros((), dtype=torch.int64, device=device)
        self._slots: list[Step] = []
        self._warm = 0
        self._replay: Callable[[], None] | None = None

    def train(self, groups: AccumulationGroups, step_done: Callable[[], None]) -> None:
        """Train on accumulation groups of full batches, and call ``step_done`` after each."""
        task = self.step.task
        while waiting := list(islice(groups, SLOTS)):
            rows = self.rows[: len(waiting)]
            torch.cat(list(chain.from_iterable(waiting)), out=rows.view(-1))
            self.epoch.fill_(task.data.augmentation_epoch)
            self.slot.zero_()
            for _ in waiting:
                self._next()
                step_done()
            for slots in self._slots:
                task.metrics.add("train", slots.map(lambda values: _joined(values[: len(waiting)])))

    def _next(self) -> None:
        if self._warm < WARM_UP:
            with warm_up_stream(self.step.task.device):
                self.once()
            self._warm += 1
            return
        if self._replay is None:
            self._replay = self.capture(self.once)
        self._replay()

    def once(self) -> None:
        """Run one optimizer step on the rows of the current slot, and move to the next slot."""
        with self.step.task.data.epoch_from(self.epoch):
            steps = self.step(self.rows.index_select(0, self.slot).squeeze(0).unbind())
        if not self._slots:
            self._slots = [step.map(lambda value: value.new_empty(SLOTS, *value.shape)) for step in steps]
        for slots, step in zip(self._slots, steps, strict=True):
            for values, value in zip(slots.tensors(), step.tensors(), strict=True):
                values.index_copy_(0, self.slot, value.unsqueeze(0))
        self.slot.add_(1)


def _joined(values: Tensor) -> Tensor:
    """Join the values of N batches: (N, B, ...) -> (N * B, ...); one scalar of each batch stays (N,)."""
    return values if values.ndim == 1 else values.flatten(0, 1)
