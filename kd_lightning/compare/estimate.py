"""How long the runs of a study take on this machine, estimated from a few steps of each row before the first run."""

import math
from collections.abc import Mapping, Sequence
from time import perf_counter, process_time
from typing import Any, NamedTuple

import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer

from kd_lightning.compare.plan import PlannedRow
from kd_lightning.errors import UserError
from kd_lightning.fast.callback import TrainAhead
from kd_lightning.tasks import Task
from kd_lightning.tasks.distill import Distill
from kd_lightning.teacher import NotCacheableError
from kd_lightning.training.dry_run import StopDryRunError, dry_run
from kd_lightning.wording import counted, duration

ENOUGH = 1.0
"""Seconds of training to time of each row, at least two batches and at most ``MAX_BATCHES``."""

MAX_BATCHES = 50

START = process_time()
"""Seconds to import torch and Lightning: what a worker takes before its first run."""


class Estimate(NamedTuple):
    """Time that the runs of a row take.

    Attributes:
        run: Seconds of one run, from its config to its test, without caching teacher outputs.
        caching: Seconds to compute the teacher outputs of all views once, for all runs; 0 where they are cached.
        tables: Identifies the cached outputs; rows with the same value share them.
    """

    run: float
    caching: float = 0.0
    tables: str = ""


class _TimeSteps(Callback):
    """Ends a fit when its steps have been timed."""

    def __init__(self) -> None:
        self.times: list[tuple[int, float]] = []  # optimizer steps done, and when
        self.before = _now(None)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Note the time; the first batch warms up."""
        self.times.append((trainer.global_step, _now(pl_module.device)))
        measured = self.times[-1][1] - self.times[0][1]
        if len(self.times) > MAX_BATCHES or (len(self.times) > 2 and measured >= ENOUGH):
            raise StopDryRunError

    @property
    def of_step(self) -> float:
        """Seconds of an optimizer step; infinite where too few were timed."""
        (first, start), (last, end) = self.times[0], self.times[-1]
        return (end - start) / (last - first) if last > first else math.inf

    @property
    def of_setup(self) -> float:
        """Seconds until the end of the first batch: to load the data and set up."""
        return self.times[0][1] - self.before


def estimate_rows(rows: Sequence[PlannedRow], threads: int) -> dict[str, Estimate]:
    """Time a few steps of each row; return the estimates by name, without the rows that fail.

    Of rows whose runs take the same time one is timed.
    """
    of_kind: dict[str, Estimate | None] = {}
    for row in rows:
        if (kind := _kind(row.config)) not in of_kind:
            of_kind[kind] = _estimate(row, threads)
    found = {row.row.title: of_kind[_kind(row.config)] for row in rows}
    return {name: estimate for name, estimate in found.items() if estimate is not None}


def _kind(config: dict[str, Any]) -> str:
    """Return what the time of a run depends on: its config without fractions in its losses and its optimization."""
    model = config["model"]
    parts = {
        name: value if name in ("network", "teacher") else _without_fractions(value)
        for name, value in model["init_args"].items()
    }
    return yaml.safe_dump([config["data"], config["trainer"], model["class_path"], parts])


def _without_fractions(values: Any) -> Any:
    if isinstance(values, dict):
        return {name: _without_fractions(value) for name, value in values.items()}
    if isinstance(values, list):
        return [_without_fractions(value) for value in values]
    return None if isinstance(values, float) else values


def _estimate(row: PlannedRow, threads: int) -> Estimate | None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return _tried(row, row.built.trainer, row.built.model)
    except (UserError, RuntimeError, ValueError, TypeError, IndexError):  # its runs will report it
        return None
    finally:
        torch.set_num_threads(before)


def _tried(row: PlannedRow, trainer: Trainer, task: Task) -> Estimate | None:
    clock, data = _TimeSteps(), row.built.data_source()  # each run loads its own
    trainer.callbacks[:] = [TrainAhead()]  # type: ignore[attr-defined]  # others may leave files
    caches = task.cache_teacher if isinstance(task, Distill) else False
    dry_run(trainer, task, data, clock)
    steps = trainer.estimated_stepping_batches
    if len(clock.times) < 2 or not math.isfinite(steps * clock.of_step):
        return None
    task.eval()
    images = torch.zeros(data.batch_size, data.in_channels, data.image_size, data.image_size, device=task.device)
    evaluated = len(data.test_rows()[1]) + (trainer.max_epochs or 0) * (len(data.val_rows()[1]) if data.has_val else 0)
    seconds = row.seconds + clock.of_setup + steps * clock.of_step
    seconds += evaluated / data.batch_size * _seconds(task, images)
    if not isinstance(task, Distill) or caches is False:
        return Estimate(seconds)
    task.cache_teacher = caches
    try:
        task.caching().check()
    except NotCacheableError:
        return Estimate(seconds)
    of_teacher = _seconds(task.teacher, images)
    saved = steps * min(of_teacher * trainer.accumulate_grad_batches, clock.of_step)
    if task.caching().is_done():
        return Estimate(seconds - saved)
    views = len(data.train_rows()[1]) * (data.seen_views.count or 1)
    tables = [row.config["data"], row.config["model"]["init_args"]["teacher"], sorted(task.targets.shapes)]
    return Estimate(seconds - saved, views / data.batch_size * of_teacher, yaml.safe_dump(tables))


@torch.no_grad()
def _seconds(module: torch.nn.Module, images: torch.Tensor) -> float:
    """Return the seconds of a forward pass after one that warms up."""
    module(images)
    started = _now(images.device)
    module(images)
    return _now(images.device) - started


def _now(device: torch.device | None) -> float:
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
    return perf_counter()


def expectation(
    estimates: Mapping[str, Estimate], missing: Sequence[str], teachers: int, jobs: int, start: float = START
) -> str:
    """Return how long the missing runs of a study take, in words.

    Args:
        estimates: By the row's name, without the rows that could not be timed.
        missing: The rows of the missing runs, a name for each run.
        teachers: Number of teachers; the outputs of each are cached separately.
        jobs: Runs at once.
        start: Seconds until a process can do its first run.
    """
    if not missing:
        return "All runs are finished."
    runs = counted(len(missing), "run")
    known = [estimates[name] for name in missing if name in estimates]
    if not known:
        return f"{runs} to do; time left unknown until the first one ends."
    caching = teachers * sum({found.tables: found.caching for found in known}.values())
    seconds = start + (sum(found.run for found in known) * len(missing) / len(known) + caching) / jobs
    return f"{runs} to do, which takes about {duration(seconds)} here, estimated from a few steps of its rows."
