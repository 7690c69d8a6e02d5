"""The results of a benchmark as plain values, and as text."""

import os
import platform
from statistics import median
from typing import Any

import torch

from kd_lightning.benchmark.loops import usual_transforms
from kd_lightning.benchmark.measure import Bench, Loop, Measured
from kd_lightning.machine.terminal import fitted
from kd_lightning.tasks.distill import Distill
from kd_lightning.teacher.table import choose_storage
from kd_lightning.wording import counted, duration


def to_plain(bench: Bench, found: Measured) -> dict[str, Any]:
    """Return all results as plain values: seconds, images and bytes."""
    network, task, floor = bench.task.network, bench.task, found.floor
    return {
        "name": bench.name,
        "task": type(task).__name__,
        "network": type(network).__name__,
        "teacher": type(task.teacher.network).__name__ if isinstance(task, Distill) else None,
        "batch_size": bench.data.batch_size,
        "image_shape": [network.image_size, network.image_size, network.in_channels],
        "images": bench.images,
        "epochs": bench.epochs,
        "teacher_not_cached": found.live,
        "tables": _tables(bench, found),
        "usual_loop_leaves_out": usual_transforms(bench.data)[1],
        "steps_one_by_one": found.slow,
        "times_one_process": _times_one_process(found),
        "machine": _machine(bench.device),
        "loops": [_loop(bench, loop, found) for loop in found.loops],
        "val_images": bench.val_images,
        "seconds_validation": found.validation,
        "floor": floor
        and {
            "name": floor.name,
            "seconds_a_step": floor.seconds,
            "seconds_an_epoch": floor.step * bench.images / bench.data.batch_size,
            "ours_takes_times": _spread(floor.speedups(found.loops[-1])),
        },
    }


def _loop(bench: Bench, loop: Loop, found: Measured) -> dict[str, Any]:
    usual, plain = found.loops[:2]
    batch = bench.data.batch_size * loop.processes
    epoch = loop.step * bench.images / batch
    once = _teacher_images(bench) * plain.parts["teacher"] / batch if loop.caches else 0.0
    if loop is usual or not found.validation:
        validation = sum(usual.parts[name] for name in ("data", "teacher", "student")) * bench.val_images / batch
    else:
        validation = median(found.validation)
    return {
        "name": loop.name,
        "processes": loop.processes,
        "seconds_a_step": loop.seconds,
        "images_a_second": batch / loop.step,
        "seconds_an_epoch": epoch,
        "times_faster": _spread(loop.speedups(usual)),
        "seconds_of_a_step": loop.parts,
        "seconds_once": once,
        "seconds_full_run": None if bench.epochs is None else once + bench.epochs * (epoch + validation),
    }


def _times_one_process(found: Measured) -> dict[str, float] | None:
    """Return how many times faster than one process several are; ``None`` where the config's run has only one."""
    *_, one, last = found.loops
    return _spread(last.speedups(one)) if last.processes > 1 else None


def _teacher_images(bench: Bench) -> int:
    """Return how many images the teacher sees to fill the cache, each view once."""
    views = bench.data.seen_views.count or 1
    return views * bench.images + (views if bench.data.pipeline.flips_only else 1) * bench.val_images


def _tables(bench: Bench, found: Measured) -> dict[str, Any] | None:
    """Return the memory that the cached teacher outputs of the whole run take; ``None`` where none are."""
    if found.cache is None:
        return None
    views = bench.data.seen_views.count or 1
    plain = bench.val_images > 0 and not bench.data.pipeline.flips_only  # one more row an image: as it is
    size = round((views + plain) * (bench.images + bench.val_images) * found.cache.size / found.cache.rows)
    place = choose_storage(size, bench.device)
    return {"views": views, "images": _teacher_images(bench), "bytes": size, "place": place and place.value}


def _spread(ratios: list[float]) -> dict[str, float]:
    return {"median": median(ratios), "lowest": min(ratios), "highest": max(ratios)}


def _machine(device: torch.device) -> dict[str, Any]:
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "architecture": platform.machine(),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "torch": str(torch.__version__),
    }


def to_text(result: dict[str, Any]) -> str:
    """Return the results as tables and sentences."""
    loops = result["loops"]
    size = "x".join(map(str, result["image_shape"]))
    teacher = f" taught by {result['teacher']}" if result["teacher"] else ""
    machine = ", ".join(f"{name} {value}" for name, value in result["machine"].items() if value is not None)
    timed = [(loop["name"], loop["seconds_of_a_step"]) for loop in loops if loop["seconds_of_a_step"]]
    lines = [
        f"{result['name']}: {result['task']}, {result['network']}{teacher}, batches of {result['batch_size']} x {size}",
        f"{machine}; medians of {counted(len(loops[0]['seconds_a_step']), 'round')}",
        "",
        f"{'':26}{'images/s':>10}{'s an epoch':>12}   times faster",
        *(
            f"{loop['name']:26}{loop['images_a_second']:10,.0f}{loop['seconds_an_epoch']:12.1f}   "
            f"{_spread_text(loop['times_faster'], 1)}"
            for loop in loops
        ),
        "",
        f"{'ms of a step':26}" + "".join(f"{part:>{_width(part)}}" for part in timed[0][1]),
        *(
            f"{name:26}" + "".join(f"{1e3 * seconds:{_width(part)}.2f}" for part, seconds in parts.items())
            for name, parts in timed
        ),
        "",
        f"An epoch has {result['images']:,} images.",
        "student: its forward pass and the loss; rest: Lightning, or what the usual loop does besides.",
    ]
    return fitted("\n".join([*lines, *_sentences(result)]))


def _width(part: str) -> int:
    return max(8, len(part) + 1)


def _sentences(result: dict[str, Any]) -> list[str]:
    """Return what there is to know of this run, a sentence each."""
    usual, ours, floor, tables = result["loops"][0], result["loops"][-1], result["floor"], result["tables"]
    lines = []
    if floor:
        times = _spread_text(floor["ours_takes_times"], 2, " times")
        epoch = f"{floor['seconds_an_epoch']:.2f} s an epoch"
        lines.append(f"The bare step without Lightning takes {epoch}; {ours['name']}, {times} that.")
    if result["steps_one_by_one"]:
        lines.append(f"The run does its steps one by one: {result['steps_one_by_one']}.")
    if result["times_one_process"]:
        together = f"{ours['processes']} processes, {counted(result['batch_size'], 'image')} each, train"
        times = _spread_text(result["times_one_process"], 2)
        lines.append(f"{together} {times} times as fast as one, image for image, measured after it.")
    if result["teacher_not_cached"]:
        lines.append(f"The teacher runs in every step: {result['teacher_not_cached']}.")
    if result["usual_loop_leaves_out"]:
        lines.append(f"The usual loop does without {', '.join(result['usual_loop_leaves_out'])}.")
    if tables:
        place = tables["place"] or "that fit nowhere: the teacher runs in every step"
        lines.append(
            f"Caching the teacher's outputs ({counted(tables['views'], 'view')} an image) takes "
            f"{duration(ours['seconds_once'])} once, for {tables['images']:,} images, and {tables['bytes'] / 1e6:,.1f} "
            f"MB {place}."
        )
    if result["seconds_validation"]:
        seconds = median(result["seconds_validation"])
        share = f"{1e3 * seconds:,.0f} ms, {seconds / ours['seconds_an_epoch']:.1%} of an epoch"
        lines.append(f"Validation of {result['val_images']:,} images takes {share}.")
    if result["epochs"]:
        once = f", {duration(ours['seconds_once'])} of them to cache the teacher's outputs" if tables else ""
        lines.append(
            f"The whole run, {counted(result['epochs'], 'epoch')} with validation, takes about "
            f"{duration(ours['seconds_full_run'])}{once}; in the usual loop {duration(usual['seconds_full_run'])}."
        )
    return lines


def _spread_text(times: dict[str, float], digits: int, unit: str = "") -> str:
    median, lowest, highest = (f"{times[name]:.{digits}f}" for name in ("median", "lowest", "highest"))
    return f"{median}{unit} ({lowest} to {highest})"
