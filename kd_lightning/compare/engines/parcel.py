"""A run as data, for machines that share no folder: what it needs, and what it leaves."""

import os
import platform
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch

from kd_lightning.compare.store import classes_file, weights_file
from kd_lightning.compare.worker import Job, attempt, clear
from kd_lightning.files import atomic_write, writing
from kd_lightning.sources import own_modules
from kd_lightning.training.console import quieten

GIVEN = "given"
TEXTS = (".json", ".md", ".txt", ".yaml")


@dataclass(frozen=True)
class Parcel:
    """A run with what it needs of the study's machine.

    Attributes:
        job: The run.
        files: The content of the files that its arguments name, its teacher's weights among them, by their paths.
        folder: Where relative paths begin, on every machine.
    """

    job: Job
    files: dict[str, bytes]
    folder: Path


@dataclass(frozen=True)
class Delivery:
    """What a run left.

    Attributes:
        failure: Why it failed, in one sentence; ``None`` where it did not.
        logs: The files in its folder, by their paths in it.
        results: The files of its results, by their endings.
    """

    failure: str | None
    logs: dict[str, bytes]
    results: dict[str, bytes]


def pack(job: Job) -> Parcel:
    """Read what a run needs."""
    files = {text: Path(text).read_bytes() for text in map(_value, job.args) if _is_file(text)}
    return Parcel(job, files, Path.cwd())


def perform(parcel: Parcel, threads: int, work: Callable[[Job], str | None] = attempt) -> Delivery:
    """Do a run in a temporary folder of this machine.

    Args:
        parcel: The run.
        threads: Its CPU threads.
        work: Does a run as it is on this machine, and returns its failure.
    """
    with tempfile.TemporaryDirectory(prefix="kd_lightning-", ignore_cleanup_errors=True) as name:
        try:
            job = _unpack(parcel, Path(name).resolve())
        except OSError as error:
            return Delivery(f"cannot write {error.filename} on {platform.node()}: {error.strerror}", {}, {})
        _set_up()
        torch.set_num_threads(threads)
        failure = work(job)
        sys.stdout.flush()  # it prints to a file in the folder of logs
        sys.stderr.flush()
        return _left(job, parcel.job, failure)


def deliver(delivery: Delivery, job: Job) -> None:
    """Write what a run left to the study's folder; the results come last, and make it a finished run.

    Raises:
        UserError: It cannot be written.
    """
    clear(job.folder)
    with writing(job.folder):
        for name, content in delivery.logs.items():
            (job.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (job.folder / name).write_bytes(content)
    for path in _results(job.result):
        if path.suffix in delivery.results:
            with atomic_write(path) as temporary:
                temporary.write_bytes(delivery.results[path.suffix])


def copy_own_modules(folder: Path) -> None:
    """Copy the user's own modules that are imported to a folder from which they can be imported."""
    for name, path in own_modules().items():
        inner = Path(*name.split("."))
        target = folder / (inner / path.name if path.name == "__init__.py" else inner.with_suffix(".py"))
        if name not in ("__main__", "__mp_main__") and path.suffix == ".py":
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())


@cache
def _set_up() -> None:
    quieten()


def _unpack(parcel: Parcel, folder: Path) -> Job:
    """Write a run's files below a folder, and return it with their paths there."""
    parcel.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(parcel.folder)
    args = list(parcel.job.args)
    for text, content in parcel.files.items():
        path = folder / GIVEN / Path(text).absolute().relative_to(Path(text).absolute().anchor)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        args = [word.removesuffix(text) + str(path) if _value(word) == text else word for word in args]
    logs, result = parcel.job.folder.parts[-2:], folder / "runs" / parcel.job.result.name
    return replace(parcel.job, args=args, folder=folder.joinpath("logs", *logs), result=result)


def _left(job: Job, sent: Job, failure: str | None) -> Delivery:
    """Read what a run left; its texts name the study's folders instead of this machine's."""
    folder = job.result.parents[1]
    there = {GIVEN: "", "logs": str(sent.folder.parents[1]), "runs": str(sent.result.parent)}
    logs = {str(path.relative_to(job.folder)): path.read_bytes() for path in job.folder.rglob("*") if path.is_file()}
    for part, place in there.items():
        failure = failure and failure.replace(str(folder / part), place)
        for name in (name for name in logs if name.endswith(TEXTS)):
            logs[name] = logs[name].replace(os.fsencode(folder / part), os.fsencode(place))
    return Delivery(failure, logs, {path.suffix: path.read_bytes() for path in _results(job.result) if path.is_file()})


def _results(result: Path) -> tuple[Path, ...]:
    """Return the files of a run's results in the order in which they are written."""
    return weights_file(result), classes_file(result), result


def _value(word: str) -> str:
    return word.partition("=")[2] if word.startswith("--") else word


def _is_file(text: str) -> bool:
    return bool(Path(text).suffix) and os.path.isfile(text)  # noqa: PTH113 - it takes any text
