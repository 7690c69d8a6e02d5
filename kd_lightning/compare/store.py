"""A study on disk: one file for each finished run, and one for the whole."""

import json
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
from numpy.typing import NDArray

from kd_lightning.compare.results import Run, Study
from kd_lightning.digest import file_digest
from kd_lightning.errors import UserError
from kd_lightning.files import atomic_write
from kd_lightning.wording import shown

MAX_BYTES = 2**30
"""Largest size of a study's unpacked arrays."""


def write_run(run: Run, path: Path) -> None:
    """Write a finished run as JSON to ``path``, after its ``correct`` as ``.npy`` beside it: ``path`` comes last.

    The JSON keeps the SHA-256 of the predictions beside it, so that no other file passes for them.
    """
    with atomic_write(_correct_file(path)) as temporary:
        np.save(temporary, run.correct)
    kept = [file for file in (_correct_file(path), classes_file(path)) if file.exists()]
    _write_json(run.to_plain() | {"sha256": {file.name: file_digest(file) for file in kept}}, path)


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


def write_study(study: Study, path: Path) -> None:
    """Write a study as JSON to ``path``, after the ``correct`` of its runs as ``.npz`` beside it."""
    with atomic_write(path.with_suffix(".npz")) as temporary:
        empty = np.zeros((0, 0), dtype=np.bool_)
        arrays = [np.stack([run.correct for run in row.runs]) if row.runs else empty for row in study.rows]
        np.savez_compressed(temporary, *arrays)
    _write_json(study.to_plain(), path)


def read_study(path: Path) -> Study:
    """Read what ``write_study`` wrote.

    Raises:
        UserError: It is missing or damaged.
    """
    try:
        with ZipFile(path.with_suffix(".npz")) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
                raise ValueError("its arrays are too large")
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as arrays:
            correct = [arrays[f"arr_{index}"] for index in range(len(arrays.files))]
        return Study.from_plain(json.loads(path.read_text(encoding="utf-8")), correct)
    except Exception as error:  # as above
        raise UserError(f"{path} is not the results of a study ({shown(error)}): start the study again.") from error


def _write_json(plain: dict[str, Any], path: Path) -> None:
    with atomic_write(path) as temporary:
        text = json.dumps(plain, allow_nan=False, ensure_ascii=False) + "\n"
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
