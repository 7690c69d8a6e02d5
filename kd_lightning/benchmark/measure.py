"""Compares the loops: in one process, alternating, with the same networks and images."""

from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from functools import cached_property, partial
from io import StringIO
from statistics import median
from typing import Any, Literal

import torch
from lightning.pytorch import Trainer

from kd_lightning.benchmark.loops import WARMUP, bare_loop, usual_loop, usual_task
from kd_lightning.benchmark.noise import Noise
from kd_lightning.benchmark.watch import EpochClock, Watch
from kd_lightning.data import ImageDataModule
from kd_lightning.fast.callback import is_wanted
from kd_lightning.tasks import Task
from kd_lightning.tasks.distill import Distill
from kd_lightning.teacher import NotCacheableError, TeacherCache
from kd_lightning.teacher.cache import check_views

Fast = bool | Literal["auto"]
"""The values of ``--model.fast``."""

SPARE = 16
"""Batches after the last measured one, so that the usual loop's workers are busy to the end."""


@dataclass
class Loop:
    """One way to train, and its measured times.

    Attributes:
        name: Its name in the report.
        time: Runs it under a watch and returns the seconds of all its measured steps.
        caches: Whether teacher outputs are cached before training.
        fast: Whether one call does many steps.
        processes: Processes that train together, each on a batch of its own.
        seconds: Of a step, in each round.
        parts: Seconds of the parts of a step, from a round of its own; empty where it is fast and has none to measure.
    """

    name: str
    time: Callable[[Watch], float]
    caches: bool = False
    fast: bool = False
    processes: int = 1
    seconds: list[float] = field(default_factory=list)
    parts: dict[str, float] = field(default_factory=dict)

    @property
    def step(self) -> float:
        """Median seconds of a step."""
        return median(self.seconds)

    def speedups(self, other: "Loop") -> list[float]:
        """Return how many times faster than another loop this one is in each round, image for image."""
        more = self.processes / other.processes
        return [more * theirs / own for own, theirs in zip(self.seconds, other.seconds, strict=True)]


@dataclass
class Measured:
    """The measurements of a benchmark.

    Attributes:
        loops: The usual loop first, then ours: plain, with teacher outputs cached where that is possible, and fast
            where the config's run is, or in several processes; the last one is that run's.
        floor: The bare step; ``None`` with a teacher.
        live: Why the teacher runs in every step; ``None`` where it is cached, or where there is none.
        slow: Why the config's run does its steps one by one; ``None`` where it does many in one call.
        validation: Seconds that Lightning takes to validate, in each round; empty where nothing validates.
        cache: The cached teacher outputs of the noise; ``None`` where none are.
    """

    loops: list[Loop]
    floor: Loop | None
    live: str | None
    slow: str | None
    validation: list[float] = field(default_factory=list)
    cache: TeacherCache | None = None


@dataclass(frozen=True)
class Bench:
    """The run of a config, whose loops are timed over noise in place of its images.

    Attributes:
        name: Its name.
        task: Gives the networks and the objective.
        data: Gives size, classes and augmentation of the images; none of them is loaded.
        make_trainer: Makes the trainer of a fit, with further arguments of ``Trainer``.
        images: Training images an epoch.
        val_images: Validation images.
        epochs: Epochs of the whole run; ``None`` where they have no limit.
        steps: Steps a round.
        workers: Processes that load images for the usual loop.
        several: The trainer's options with which the config's run has several processes.
        processes: The processes of that run.
    """

    name: str
    task: Task
    data: ImageDataModule
    make_trainer: Callable[..., Trainer]
    images: int
    val_images: int
    epochs: int | None
    steps: int
    workers: int
    several: dict[str, Any] = field(default_factory=dict)
    processes: int = 1

    @cached_property
    def noise(self) -> Noise:
        """The images."""
        noise = Noise(self.data, (WARMUP + self.steps + SPARE) * self.processes, self.val_images)
        noise.setup("fit")
        return noise

    @cached_property
    def trainer(self) -> Trainer:
        """A trainer that gives the device and the precision."""
        return self.make_trainer()

    @property
    def device(self) -> torch.device:
        """Where training runs."""
        return self.trainer.strategy.root_device

    def bare(self, watch: Watch) -> float:
        """Return the seconds of the bare steps."""
        task, precision = self.task.to(watch.device), self.trainer.precision_plugin
        return bare_loop(task, self.noise, precision, self.steps, watch.device)

    def ours(self, watch: Watch, *, cache: bool, fast: Fast) -> float:
        """Return the seconds of our steps."""
        return self.fit(watch, cache=cache, fast=fast, limit_train_batches=self.steps).seconds

    def together(self, *, cache: bool) -> float:
        """Return the seconds of our steps in several processes."""
        watch = Watch(self.device, on=False)
        return self.fit(watch, cache=cache, fast=False, limit_train_batches=self.steps, **self.several).seconds

    def validation(self, *, cache: bool, fast: Fast) -> float:
        """Return the seconds of a validation between two epochs."""
        watch = Watch(self.device, on=False)
        return self.fit(watch, cache=cache, fast=fast, limit_train_batches=2, limit_val_batches=None).validation

    def fit(self, watch: Watch, *, cache: bool, fast: Fast, **options: Any) -> EpochClock:
        """Train two epochs and return their clock; its second one is measured."""
        self.task.fast = fast
        if isinstance(self.task, Distill):
            self.task.cache_teacher = cache
        clock = EpochClock(watch)
        with redirect_stdout(StringIO()):  # what a fit prints
            self.make_trainer(callbacks=[clock], max_epochs=2, **options).fit(self.task, datamodule=self.noise)
        return clock


def measure(bench: Bench, rounds: int) -> Measured:
    """Time the usual loop and ours in turn, then the parts of each."""
    option, distils = bench.task.fast, isinstance(bench.task, Distill)
    usual = partial(usual_loop, usual_task(bench.task, bench.device), bench.noise, bench.steps, bench.workers)
    live = _why_live(bench.noise) if distils else None
    cache, slow = distils and live is None, _why_plain(bench)
    loops = [Loop("the usual loop", usual), Loop("ours, plain", partial(bench.ours, cache=False, fast=False))]
    if cache:
        loops.append(Loop("ours, teacher cached", partial(bench.ours, cache=True, fast=False), caches=True))
    if slow is None:
        loops.append(Loop("ours, fast", partial(bench.ours, cache=cache, fast=option), caches=cache, fast=True))
    found = Measured(loops, None if distils else Loop("the bare step", bench.bare), live, slow)
    for _ in range(rounds):
        for loop in [*loops, *([found.floor] if found.floor else [])]:
            loop.seconds.append(loop.time(Watch(bench.device, on=False)) / bench.steps)
        if bench.val_images:
            found.validation.append(bench.validation(cache=cache, fast=option))
    found.cache = bench.task.teacher_cache if isinstance(bench.task, Distill) and cache else None
    for loop in loops:
        loop.parts = {} if loop.fast else _parts(loop, bench)
    if bench.processes > 1:  # last: this process then stays connected to the others
        threads = torch.get_num_threads()
        loops.append(measure_processes(bench, rounds))
        torch.set_num_threads(threads)  # Lightning gives each process its share of the cores
    return found


def measure_processes(bench: Bench, rounds: int) -> Loop:
    """Time our loop in several processes; each of them calls this."""
    cache = isinstance(bench.task, Distill) and _why_live(bench.noise) is None
    seconds = [bench.together(cache=cache) / bench.steps for _ in range(rounds)]
    name = f"ours, {bench.processes} processes"
    return Loop(name, lambda _: bench.together(cache=cache), cache, processes=bench.processes, seconds=seconds)


def _why_plain(bench: Bench) -> str | None:
    """Return why the config's run does its steps one by one; ``None`` where it does many in one call."""
    option = bench.task.fast
    if bench.processes > 1:
        return "several processes train together"
    if option is False:
        return "--model.fast is false"
    if not is_wanted(option, bench.device):
        return "on a CPU many in one call save less than a tenth; --model.fast true measures that"
    watch = Watch(bench.device, on=False)
    return bench.fit(watch, cache=False, fast=False, limit_train_batches=1).plain


def _why_live(data: ImageDataModule) -> str | None:
    """Return why the teacher runs in every step; ``None`` where its outputs can be cached."""
    try:
        check_views(data)
    except NotCacheableError as reason:
        return str(reason)
    return None


def _parts(loop: Loop, bench: Bench) -> dict[str, float]:
    """Return the seconds of a step's parts: ``student`` without the teacher, ``rest`` what has no name of its own."""
    watch = Watch(bench.device, on=True)
    step = loop.time(watch) / bench.steps
    parts = {
        name: watch.seconds[name] / bench.steps for name in ("data", "teacher", "student", "backward", "optimizer")
    }
    parts["student"] -= parts["teacher"]
    return {**parts, "rest": step - sum(parts.values())}
