"""Compares the loops: in one process, alternating, with the same networks and images."""

from collections.abc import Callable
from contextlib import redirect_stdout
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cached_property, partial
from io import StringIO
from statistics import median
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, Trainer
from torch import nn
from torch.optim import Adam

from kd_lightning.benchmark.bare import bare_loop
from kd_lightning.benchmark.limits import Work, machine, work_of
from kd_lightning.benchmark.noise import Noise
from kd_lightning.benchmark.usual import WARMUP, usual_loop
from kd_lightning.benchmark.watch import AsksWhy, EpochClock, ValidationClock, Watch
from kd_lightning.data import ImageDataModule
from kd_lightning.fast.callback import is_wanted
from kd_lightning.tasks import Task
from kd_lightning.tasks.distill import Distill
from kd_lightning.teacher import NotCacheableError, TeacherCache
from kd_lightning.teacher.cache import check_views

SPARE = 16
"""Batches after the last measured one, so that the usual loop's workers are busy to the end."""

USUAL = "the usual loop"

Time = Callable[[Watch], float]
"""Runs a loop under a watch and returns the seconds that its measured steps take."""


@dataclass
class Loop:
    """One way to train, and its measured times.

    Attributes:
        name: Its name in the report.
        time: Runs it.
        work: Of a step.
        seconds: Of a step, in each round.
        parts: Seconds of the parts of a step, from a round of its own; empty where it is fast and has none to measure.
        caches: Whether teacher outputs are cached before training.
        fast: Whether one call does many steps.
    """

    name: str
    time: Time
    work: Work
    seconds: list[float] = field(default_factory=list)
    parts: dict[str, float] = field(default_factory=dict)
    caches: bool = False
    fast: bool = False

    @property
    def step(self) -> float:
        """Median seconds of a step."""
        return median(self.seconds)

    def speedups(self, other: "Loop") -> list[float]:
        """Return how many times faster than another loop this one is in each round."""
        return [theirs / own for own, theirs in zip(self.seconds, other.seconds, strict=True)]


@dataclass
class Measured:
    """The measurements of a benchmark.

    Attributes:
        loops: The usual loop first, then ours: plain, with teacher outputs cached where that is possible, and fast
            where the config's run is; the last one is that run's.
        limit: Work that the machine does in a second.
        device: Where it was measured.
        validation: Seconds that Lightning takes to validate, in each round; empty where nothing validates.
        floor: The bare step; ``None`` with a teacher.
        live: Why the teacher runs in every step; ``None`` where it is cached, or where there is none.
        cache: The cached teacher outputs of the noise; ``None`` where none are.
        slow: Why the config's run does its steps one by one; ``None`` where it does many in one call.
    """

    loops: list[Loop]
    limit: Work
    device: torch.device
    validation: list[float] = field(default_factory=list)
    floor: Loop | None = None
    live: str | None = None
    cache: TeacherCache | None = None
    slow: str | None = None


@dataclass(frozen=True)
class Bench:
    """Runs loops over noise in place of the images of a config.

    Attributes:
        task: Gives the networks and the objective.
        data: Gives size, classes and augmentation of the images; none of them is loaded.
        make_trainer: Makes the trainer of a fit, with further arguments of ``Trainer``.
        steps: Steps a round.
        workers: Processes that load images for the usual loop.
        val_images: Validation images.
    """

    task: Task
    data: ImageDataModule
    make_trainer: Callable[..., Trainer]
    steps: int
    workers: int
    val_images: int

    @cached_property
    def noise(self) -> Noise:
        """The images."""
        return Noise(self.data, WARMUP + self.steps + SPARE, self.val_images)

    @cached_property
    def trainer(self) -> Trainer:
        """A trainer that gives the device and the precision."""
        return self.make_trainer()

    @property
    def device(self) -> torch.device:
        """Where training runs."""
        return self.trainer.strategy.root_device

    @cached_property
    def fast_option(self) -> bool | Literal["auto"]:
        """The config's ``fast`` option."""
        return self.task.fast

    def reason_for_plain(self) -> str | None:
        """Return why the config's run does its steps one by one; ``None`` where it does many in one call."""
        if self.fast_option is False:
            return "--model.fast is false"
        if not is_wanted(self.fast_option, self.device):
            return "on a CPU many in one call save less than a tenth; --model.fast true measures that"
        probe = AsksWhy()
        self._fit(probe, cache=False, fast=False, limit_train_batches=1)
        return probe.reason

    @cached_property
    def usual_task(self) -> Task:
        """The task as the usual loop has it: layers in the order of their list, in torch's own memory format."""
        task = deepcopy(self.task).to(self.device, memory_format=torch.contiguous_format)
        task.compiled = False
        for module in task.modules():
            if isinstance(module, nn.Sequential):
                module.__class__ = nn.Sequential
        return task

    def time_usual(self, watch: Watch) -> float:
        """Return the seconds of the usual loop's steps."""
        return usual_loop(self.usual_task, self.noise, self.steps, self.workers, watch)

    def time_bare(self, watch: Watch) -> float:
        """Return the seconds of the bare steps."""
        return bare_loop(self.task.to(self.device), self.noise, self.trainer.precision_plugin, self.steps, watch)

    def time_ours(self, watch: Watch, *, cache: bool, fast: bool) -> float:
        """Return the seconds of our steps."""
        clock = EpochClock(watch)
        self._fit(clock, cache=cache, fast=fast, limit_train_batches=self.steps)
        return clock.seconds

    def time_validation(self, *, cache: bool) -> float:
        """Return the seconds of a validation between two epochs."""
        clock = ValidationClock(self.device)
        self._fit(clock, cache=cache, fast=True, limit_train_batches=2, limit_val_batches=None)
        return clock.seconds

    def _fit(self, clock: Callback, *, cache: bool, fast: bool, **options: Any) -> None:
        option = self.fast_option
        self.task.fast = option if fast else False
        if isinstance(self.task, Distill):
            self.task.cache_teacher = cache
        with redirect_stdout(StringIO()):  # what a fit prints
            self.make_trainer(callbacks=[clock], max_epochs=2, **options).fit(self.task, datamodule=self.noise)


def measure(bench: Bench, rounds: int) -> Measured:
    """Time the usual loop and ours in turn, then the parts of each."""
    task, device, slow = bench.task, bench.device, bench.reason_for_plain()
    work, teachers = _work(bench.usual_task, bench.noise, device)

    def ours(name: str, *, cache: bool = False, fast: bool = False) -> Loop:
        own = work - teachers if cache else work
        return Loop(name, partial(bench.time_ours, cache=cache, fast=fast), own, caches=cache, fast=fast)

    loops = [Loop(USUAL, bench.time_usual, work), ours("ours, plain")]
    live = _reason_for_live_teacher(bench.noise)
    cache = isinstance(task, Distill) and live is None
    if cache:
        loops.append(ours("ours, teacher cached", cache=True))
    if slow is None:
        loops.append(ours("ours, fast", cache=cache, fast=True))
    measured = Measured(loops, Work(0, 0), device, live=live if isinstance(task, Distill) else None, slow=slow)
    if not isinstance(task, Distill):
        measured.floor = Loop("the bare step", bench.time_bare, work)
    dtype = torch.bfloat16 if "16" in str(bench.trainer.precision) else torch.float32
    for _ in range(rounds):
        measured.limit = measured.limit.most(machine(device, dtype))
        for loop in [*loops, *([measured.floor] if measured.floor else [])]:
            loop.seconds.append(loop.time(Watch(device, on=False)) / bench.steps)
        if bench.val_images:
            measured.validation.append(bench.time_validation(cache=cache))
    measured.cache = task.teacher_cache if isinstance(task, Distill) and cache else None
    for loop in loops:
        loop.parts = {} if loop.fast else _parts(loop, bench.steps, device)
    return measured


def _reason_for_live_teacher(data: ImageDataModule) -> str | None:
    try:
        check_views(data)
    except NotCacheableError as reason:
        return str(reason)
    return None


def _parts(loop: Loop, steps: int, device: torch.device) -> dict[str, float]:
    """Return the seconds of a step's parts: ``student`` without the teacher, ``rest`` what has no name of its own."""
    watch = Watch(device)
    step = loop.time(watch) / steps
    names = ("data", "teacher", "student", "backward", "optimizer")
    parts = {name: watch.seconds.get(name, 0.0) / steps for name in names}
    parts["student"] -= parts["teacher"]
    return {**parts, "rest": step - sum(parts.values())}


def _work(task: Task, data: ImageDataModule, device: torch.device) -> tuple[Work, Work]:
    """Count the work of a step, and the teacher's part of it."""
    data.setup("fit")
    raw = data.train_dataloader().gather(data.train_rows()[1][: data.batch_size])
    batch = data.on_after_batch_transfer(raw.to(device), 0)
    optimizer = Adam(task.trained_parameters())

    def step() -> None:
        task.step(batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    teachers = work_of(lambda: task.teacher_outputs(batch)) if isinstance(task, Distill) else Work(0, 0)
    return work_of(step), teachers
