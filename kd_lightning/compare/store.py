"""A study's folder: it is locked while a study runs, and has a file for each finished run."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from kd_lightning.compare.results import Run
from kd_lightning.compare.run_key import weights_hash
from kd_lightning.errors import UserError
from kd_lightning.files import atomic_write, file_digest, writing
from kd_lightning.wording import shown


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Lock a study's folder for this process; the system releases the lock when the process ends, however it ends.

    Raises:
        UserError: Another compare is at work in it, or it cannot be written.
    """
    lock = FileLock(folder / ".lock", timeout=0)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            raise UserError(
                f"another compare is at work in {folder}; wait for its end, or give this one another --output."
            ) from None
    try:
        yield
    finally:
        lock.release()


def write_run(run: Run, path: Path) -> None:
    """Write a finished run as JSON to ``path``, after the true and predicted classes, (2, N), as ``.npy`` beside it.

    The JSON has the SHA-256 of the classes, so that no other file passes for them.
    """
    with atomic_write(classes_file(path)) as temporary:
        np.save(temporary, np.stack([run.labels, run.predicted]))
    plain = run.to_plain() | {"sha256": file_digest(classes_file(path))}
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(plain, allow_nan=False) + "\n", encoding="utf-8")


def read_run(path: Path) -> Run:
    """Read what ``write_run`` wrote.

    Raises:
        UserError: It is missing or damaged.
    """
    try:
        values, file = json.loads(path.read_text(encoding="utf-8")), classes_file(path)
        if values["sha256"] != file_digest(file):
            raise ValueError(f"{file.name} is not the file that the run wrote")
        classes = np.load(file, mmap_mode="r", allow_pickle=False)  # a map is no larger than its file
        return Run.from_plain(values, *np.array(classes, dtype=np.int64))
    except Exception as error:  # on damaged files NumPy and json raise nearly anything
        raise UserError(
            f"{path} is not a finished run ({shown(error)}): delete it and start the study again."
        ) from error


def finished_run(result: Path) -> Run | None:
    """Return a finished run; ``None`` where it or its weights are missing, damaged or another run's."""
    if not result.is_file():
        return None
    try:
        found, of_file = read_run(result), weights_hash(weights_file(result))
    except UserError:
        return None
    return found if found.weights in ("", of_file) else None


def ended_run(result: Path) -> Run | None:
    """Return a run that has just ended; ``None`` where it left no results. Its weights are read when they are used."""
    try:
        return read_run(result) if weights_file(result).is_file() else None
    except UserError:
        return None


def classes_file(result: Path) -> Path:
    """Return the file with the true and the predicted class of each test image of a run."""
    return result.with_suffix(".npy")


def weights_file(result: Path) -> Path:
    """Return the file with the weights of a run."""
    return result.with_suffix(".pth")
