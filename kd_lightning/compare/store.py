"""A study's folder: it is locked while a study runs, and has a file for each finished run."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from kd_lightning.compare.results import Run
from kd_lightning.digest import file_digest
from kd_lightning.errors import UserError
from kd_lightning.files import atomic_write, writing
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
    """Write a finished run as JSON to ``path``, after its ``correct`` as ``.npy`` beside it: ``path`` comes last.

    The JSON keeps the SHA-256 of the predictions beside it, so that no other file passes for them.
    """
    with atomic_write(_correct_file(path)) as temporary:
        np.save(temporary, run.correct)
    kept = [file for file in (_correct_file(path), classes_file(path)) if file.exists()]
    plain = run.to_plain() | {"sha256": {file.name: file_digest(file) for file in kept}}
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(plain, allow_nan=False) + "\n", encoding="utf-8")


def read_run(path: Path) -> Run:
    """Read what ``write_run`` wrote.

    Raises:
        UserError: It is missing or damaged.
    """
    try:
        correct = _checked_array(_correct_file(path), path)
        return Run.from_plain(json.loads(path.read_text(encoding="utf-8")), correct)
    except Exception as error:  # on damaged files NumPy and json raise nearly anything
        raise UserError(
            f"{path} is not a finished run ({shown(error)}): delete it and start the study again."
        ) from error


def _correct_file(result: Path) -> Path:
    return result.with_suffix(".npy")


def classes_file(result: Path) -> Path:
    """Return the file with the predicted class of each test image of a run."""
    return result.with_suffix(".classes.npy")


def weights_file(result: Path) -> Path:
    """Return the file with the weights of a run."""
    return result.with_suffix(".pth")


def read_classes(result: Path) -> NDArray[np.int64]:
    """Read the predicted class of each test image of a run.

    Raises:
        UserError: The file is damaged, or belongs to another run.
    """
    path = classes_file(result)
    try:
        classes: NDArray[np.int64] = _checked_array(path, result)
        if classes.ndim != 1 or classes.dtype.kind != "i":
            raise ValueError(f"{classes.dtype} of shape {classes.shape}")
    except Exception as error:  # as above
        raise UserError(
            f"{path} holds no predicted classes ({shown(error)}): delete it and start the study again."
        ) from error
    return classes


def _checked_array(path: Path, result: Path) -> NDArray[Any]:
    """Read an array; raise ``ValueError`` where its digest is not the one in the run's JSON."""
    if json.loads(result.read_text(encoding="utf-8"))["sha256"][path.name] != file_digest(path):
        raise ValueError(f"{path.name} is not the file that the run wrote")
    return np.array(np.load(path, mmap_mode="r", allow_pickle=False))  # a map is no larger than its file
