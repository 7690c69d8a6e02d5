"""The results of a benchmark as plain values, and as text."""

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch

from kd_lightning.benchmark.limits import Work
from kd_lightning.benchmark.measure import Loop, Measured
from kd_lightning.tasks import Task
from kd_lightning.tasks.distill import Distill
from kd_lightning.teacher import TeacherCache
from kd_lightning.teacher.table import choose_storage
from kd_lightning.wording import counted, duration


@dataclass(frozen=True)
class Run:
    """The run that a config describes.

    Attributes:
        name: Its name.
        task: Its task.
        batch_size: Images a training batch.
        images: Training images an epoch.
        val_images: Validation images.
        epochs: Epochs of the whole run; ``None`` where they have no limit.
        views: Views of an image whose teacher outputs are cached: 2 with flips.
        flips: Whether the views are the image and its mirror image, which are cached for validation images, too.
        left_out: Augmentations that the usual loop leaves out, because torchvision has none for a single image.
    """

    name: str
    task: Task
    batch_size: int
    images: int
    val_images: int
    epochs: int | None
    views: int = 1
    flips: bool = False
    left_out: Sequence[str] = ()

    @property
    def answers(self) -> int:
        """Images that the teacher sees to fill the cache, each view once."""
        return self.views * self.images + self.val_images * (self.views if self.flips else 1)

    @property
    def rows(self) -> int:
        """Rows of the cached tables: one an image and view, and one more an image where some validate."""
        plain = self.val_images > 0 and not self.flips
        return (self.views + plain) * (self.images + self.val_images)


def to_plain(run: Run, measured: Measured) -> dict[str, Any]:
    """Return all results as plain values: seconds, images, operations and bytes."""
    network, task = run.task.network, run.task
    teacher = type(task.teacher.network).__name__ if isinstance(task, Distill) else None
    return {
        "name": run.name,
        "task": type(task).__name__,
        "network": type(network).__name__,
        "teacher": teacher,
        "batch_size": run.batch_size,
        "image_shape": [network.image_size, network.image_size, network.in_channels],
        "images": run.images,
        "epochs": run.epochs,
        "teacher_not_cached": measured.live,
        "tables": None if measured.cache is None else _tables(run, measured.cache, measured.device),
        "usual_loop_leaves_out": list(run.left_out),
        "steps_one_by_one": measured.slow,
        "machine": _machine(measured.device),
        "limit": measured.limit._asdict(),
        "loops": [_loop(run, loop, measured) for loop in measured.loops],
        "val_images": run.val_images,
        "seconds_validation": measured.validation,
        "floor": None if measured.floor is None else _floor(run, measured.floor, measured.loops[-1]),
    }


def _loop(run: Run, loop: Loop, measured: Measured) -> dict[str, Any]:
    usual, plain = measured.loops[:2]
    once = 0.0
    if loop.caches:
        once = run.answers * plain.parts["teacher"] / run.batch_size
    epoch = loop.step * run.images / run.batch_size
    if loop is usual or not measured.validation:
        forward = sum(usual.parts[name] for name in ("data", "teacher", "student"))
        validation = forward * run.val_images / run.batch_size
    else:
        validation = median(measured.validation)
    speedups = loop.speedups(usual)
    return {
        "name": loop.name,
        "seconds_a_step": loop.seconds,
        "images_a_second": run.batch_size / loop.step,
        "seconds_an_epoch": epoch,
        "times_faster": _spread(speedups),
        "seconds_of_a_step": loop.parts,
        "work_of_a_step": loop.work._asdict(),
        "share_of_limit": _shares(loop, measured.limit),
        "seconds_once": once,
        "seconds_full_run": None if run.epochs is None else once + run.epochs * (epoch + validation),
    }


def _tables(run: Run, cache: TeacherCache, device: torch.device) -> dict[str, Any]:
    """Return the memory that the cached teacher outputs of the whole run take."""
    size = round(run.rows * cache.size / cache.rows)
    place = choose_storage(size, device)
    return {"views": run.views, "answers": run.answers, "bytes": size, "place": None if place is None else place.value}


def _floor(run: Run, floor: Loop, ours: Loop) -> dict[str, Any]:
    above = floor.speedups(ours)
    return {
        "name": floor.name,
        "seconds_a_step": floor.seconds,
        "seconds_an_epoch": floor.step * run.images / run.batch_size,
        "ours_takes_times": _spread(above),
    }


def _spread(ratios: list[float]) -> dict[str, float]:
    return {"median": median(ratios), "lowest": min(ratios), "highest": max(ratios)}


def _shares(loop: Loop, limit: Work) -> dict[str, float]:
    return {
        "flops": loop.work.flops / loop.step / limit.flops,
        "bytes": loop.work.bytes / loop.step / limit.bytes,
    }


def _machine(device: torch.device) -> dict[str, Any]:
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "architecture": platform.machine(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "torch": str(torch.__version__),
    }


def to_text(result: dict[str, Any]) -> str:
    """Return the results as tables."""
    loops = result["loops"]
    rounds = len(loops[0]["seconds_a_step"])
    size = "x".join(map(str, result["image_shape"]))
    teacher = f" taught by {result['teacher']}" if result["teacher"] else ""
    machine = ", ".join(f"{name} {value}" for name, value in result["machine"].items() if value is not None)
    lines = [
        f"{result['name']}: {result['task']}, {result['network']}{teacher}, batches of {result['batch_size']} x {size}",
        f"{machine}; medians of {counted(rounds, 'round')}",
        "",
        f"{'':26}{'images/s':>10}{'s an epoch':>12}   {'times faster':22}{'arithmetic':>11}{'memory':>8}",
        *(_row(loop) for loop in loops),
        "",
        f"An epoch has {result['images']:,} images. Shares are of what a matrix product and a copy reach here: "
        f"{result['limit']['flops'] / 1e9:,.0f} GFLOP/s, {result['limit']['bytes'] / 1e9:,.1f} GB/s;",
        "memory counts what every operation reads and writes, so caches can lift it above 100 %.",
        "",
        f"{'ms of a step':26}" + "".join(f"{part:>10}" for part in loops[0]["seconds_of_a_step"]),
        *(
            f"{loop['name']:26}" + "".join(f"{1e3 * s:10.2f}" for s in loop["seconds_of_a_step"].values())
            for loop in loops
            if loop["seconds_of_a_step"]
        ),
        "",
        "student: its forward pass and the loss; rest: Lightning, or what the usual loop does besides.",
        *_floor_text(result["floor"], loops[-1]["name"]),
    ]
    if result["steps_one_by_one"]:
        lines.append(f"The run does its steps one by one: {result['steps_one_by_one']}.")
    if result["teacher_not_cached"]:
        lines.append(f"The teacher runs in every step: {result['teacher_not_cached']}.")
    if result["usual_loop_leaves_out"]:
        lines.append(f"The usual loop does without {', '.join(result['usual_loop_leaves_out'])}.")
    return "\n".join([*lines, *_tables_text(result), *_validation(result), *_full_run(result)])


def _row(loop: dict[str, Any]) -> str:
    faster, share = loop["times_faster"], loop["share_of_limit"]
    times = f"{faster['median']:.1f} ({faster['lowest']:.1f} to {faster['highest']:.1f})"
    speed = f"{loop['images_a_second']:10,.0f}{loop['seconds_an_epoch']:12.1f}"
    return f"{loop['name']:26}{speed}   {times:22}{share['flops']:11.0%}{share['bytes']:8.0%}"


def _floor_text(floor: dict[str, Any] | None, ours: str) -> list[str]:
    if floor is None:
        return []
    times = floor["ours_takes_times"]
    spread = f"{times['median']:.2f} times ({times['lowest']:.2f} to {times['highest']:.2f})"
    return [f"The bare step without Lightning takes {floor['seconds_an_epoch']:.2f} s an epoch; {ours}, {spread} that."]


def _tables_text(result: dict[str, Any]) -> list[str]:
    """Return the cost of caching the teacher's outputs, in words."""
    tables = result["tables"]
    if tables is None:
        return []
    once = duration(result["loops"][-1]["seconds_once"])
    size = f"{tables['bytes'] / 1e6:,.1f} MB"
    place = tables["place"] or "that fit nowhere: the teacher runs in every step"
    return [
        f"Caching the teacher's outputs ({counted(tables['views'], 'view')} an image) takes {once} once, for "
        f"{tables['answers']:,} images, and {size} {place}."
    ]


def _validation(result: dict[str, Any]) -> list[str]:
    if not result["seconds_validation"]:
        return []
    seconds = median(result["seconds_validation"])
    share = seconds / result["loops"][-1]["seconds_an_epoch"]
    return [f"Validation of {result['val_images']:,} images takes {1e3 * seconds:,.0f} ms, {share:.1%} of an epoch."]


def _full_run(result: dict[str, Any]) -> list[str]:
    loop = result["loops"][-1]
    if loop["seconds_full_run"] is None:
        return []
    once = f", {duration(loop['seconds_once'])} of them to cache the teacher's outputs" if loop["seconds_once"] else ""
    usual, ours = duration(result["loops"][0]["seconds_full_run"]), duration(loop["seconds_full_run"])
    run = f"{counted(result['epochs'], 'epoch')} with validation"
    return [f"The whole run, {run}, takes about {ours}{once}; in the usual loop {usual}."]
