"""How long the runs of a study take on this machine, estimated from a few timed steps of each row."""

import math
import re
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any, NamedTuple

import torch
import yaml
from lightning.pytorch import Callback, LightningModule, Trainer

from kd_lightning.compare.rows import PlannedRow
from kd_lightning.errors import UserError
from kd_lightning.fast.callback import TrainAhead
from kd_lightning.tasks.distill import Distill
from kd_lightning.teacher import NotCacheableError
from kd_lightning.training.dry_run import StopDryRunError, dry_run
from kd_lightning.wording import counted, duration

ENOUGH = 1.0
"""Seconds of training to time of each row, at least two batches and at most ``MAX_BATCHES``."""

MAX_BATCHES = 50

FRACTION = re.compile(r"\d\.\d+(e[-+]\d+)?")
"""A number, such as a learning rate, that does not change how long a step takes."""


class Estimate(NamedTuple):
    """Seconds that the runs of a row take: one run, and once for all runs to cache the teacher's outputs."""

    run: float
    caching: float = 0.0


class _TimeSteps(Callback):
    """Ends a fit when its steps have been timed."""

    def __init__(self) -> None:
        self.times: list[tuple[int, float]] = []  # optimizer steps done, and when

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Note the time; the first batch warms up."""
        self.times.append((trainer.global_step, _now(pl_module.device)))
        measured = self.times[-1][1] - self.times[0][1]
        if len(self.times) > MAX_BATCHES or (len(self.times) > 2 and measured >= ENOUGH):
            raise StopDryRunError


def estimate_rows(rows: Sequence[PlannedRow], threads: int) -> dict[str, Estimate]:
    """Time a few steps of each row; return the estimates by name, without the rows that fail.

    Of rows that differ only in fractions, such as weights of losses, one is timed.
    """
    before, of_kind, found = torch.get_num_threads(), dict[str, Estimate | None](), dict[str, Estimate]()
    torch.set_num_threads(threads)
    for row in rows:
        kind = FRACTION.sub("", yaml.safe_dump([row.config[name] for name in ("data", "model", "trainer")]))
        if kind not in of_kind:
            try:
                of_kind[kind] = _estimate(row)
            except (UserError, RuntimeError, ValueError, TypeError, IndexError):  # its runs will report it
                of_kind[kind] = None
        if (estimate := of_kind[kind]) is not None:
            found[row.title] = estimate
    torch.set_num_threads(before)
    return found


def _estimate(row: PlannedRow) -> Estimate | None:
    clock, trainer, task, data = _TimeSteps(), row.built.trainer, row.built.model, row.built.data_source()
    trainer.callbacks[:] = [TrainAhead()]  # type: ignore[attr-defined]  # others may leave files
    caches = task.cache_teacher if isinstance(task, Distill) else False
    dry_run(trainer, task, data, clock)
    steps, ((first, start), *_, (last, end)) = trainer.estimated_stepping_batches, clock.times
    of_step = (end - start) / (last - first) if last > first else math.inf
    if not math.isfinite(steps * of_step):
        return None
    task.eval()
    images = torch.zeros(data.batch_size, data.in_channels, data.image_size, data.image_size, device=task.device)
    evaluated = len(data.test_rows()[1]) + (trainer.max_epochs or 0) * (len(data.val_rows()[1]) if data.has_val else 0)
    seconds = steps * of_step + evaluated / data.batch_size * _seconds(task, images)
    if not isinstance(task, Distill) or caches is False or not _is_cacheable(task, caches):
        return Estimate(seconds)
    of_teacher, views = _seconds(task.teacher, images), len(data.train_rows()[1]) * (data.seen_views.count or 1)
    saved = steps * min(of_teacher * trainer.accumulate_grad_batches, of_step)
    return Estimate(seconds - saved, views / data.batch_size * of_teacher)


def _is_cacheable(task: Distill, caches: Any) -> bool:
    task.cache_teacher = caches  # which a dry run turns off
    try:
        task.caching().check()
    except NotCacheableError:
        return False
    return True


@torch.no_grad()
def _seconds(module: torch.nn.Module, images: torch.Tensor) -> float:
    """Return the seconds of a forward pass after one that warms up."""
    module(images)
    started = _now(images.device)
    module(images)
    return _now(images.device) - started


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return perf_counter()


def expectation(estimates: Mapping[str, Estimate], missing: Sequence[str], teachers: int, jobs: int | None) -> str:
    """Return how long the missing runs of a study take, in words.

    Args:
        estimates: By the row's name, without the rows that could not be timed.
        missing: The rows of the missing runs, a name for each run.
        teachers: Number of teachers; the outputs of each are cached once.
        jobs: Runs at once; ``None`` where a cluster decides.
    """
    if not missing:
        return "All runs are finished."
    runs = counted(len(missing), "run")
    if jobs is None:
        return f"{runs} to do."
    known = [estimates[name] for name in missing if name in estimates]
    if not known:
        return f"{runs} to do; time left unknown until the first one ends."
    caching = teachers * max(found.caching for found in known)
    seconds = (sum(found.run for found in known) * len(missing) / len(known) + caching) / jobs
    return f"{runs} to do, which takes about {duration(seconds)} here, estimated from a few steps of its rows."
