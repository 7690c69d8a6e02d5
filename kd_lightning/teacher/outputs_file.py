"""Files of a teacher's outputs: read memory-mapped without unpickling anything, and written image by image."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from math import prod
from os.path import commonpath
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from zipfile import ZIP_STORED, ZipFile

import numpy as np
from numpy.lib import format as npy
from torch import Tensor

from kd_lightning.digest import bytes_of
from kd_lightning.errors import UserError
from kd_lightning.files import atomic_write
from kd_lightning.wording import shortened, shown

Array = np.ndarray[Any, Any]

HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
"""Readers of the header of an array, by the version of the format."""

BEFORE_NAME = 30
"""Bytes of a file's header in a zip archive, before its name."""


class OutputsFile(NamedTuple):
    """The content of a file of outputs.

    Attributes:
        values: A row an image, (N, num_classes), floating-point, memory-mapped where it is not CSV.
        kind: Whether they are ``logits`` or ``probabilities``, where the file says so.
        names: The file names of the images.
        classes: The names of the classes.
        labels: The images' class indices, (N,).
        digest: The digest of their pixels.
        image_size: Height and width of the digested images.
    """

    values: Array
    kind: str | None = None
    names: Sequence[str] | None = None
    classes: Sequence[str] | None = None
    labels: Array | None = None
    digest: str | None = None
    image_size: int | None = None


def read_outputs(path: Path) -> OutputsFile:
    """Read a ``.npy``, ``.npz`` or ``.csv`` of outputs.

    Raises:
        UserError: It cannot be read, or holds no table of numbers.
    """
    readers = {".npy": _read_npy, ".npz": _read_npz, ".csv": _read_csv}
    if path.suffix.lower() not in readers:
        raise UserError(f"the teacher's outputs {path} must be a .npy, .npz or .csv file.")
    if not path.is_file():
        raise UserError(
            f"--model.teacher.path is {path}, which is not a file; `kd-lightning export --logits {path.stem}.npz` "
            "writes one."
        )
    try:
        found = readers[path.suffix.lower()](path)
    except Exception as error:  # on damaged files zipfile, NumPy and csv raise nearly anything
        reason = shortened(shown(" ".join(str(error).split()).rstrip(".")), 300) or type(error).__name__
        raise UserError(f"the teacher's outputs {path} cannot be read ({reason}); write the file again.") from error
    if found.values.ndim != 2 or not found.values.dtype.isnative or found.values.dtype not in ("f2", "f4", "f8"):
        raise UserError(
            f"the teacher's outputs {path} have the shape {found.values.shape} and the type {found.values.dtype}, but "
            "must be a table of floating-point numbers, a row an image and a column a class."
        )
    return found


def _read_npy(path: Path) -> OutputsFile:
    return OutputsFile(_mapped(path, 0, path.stat().st_size))


def _read_npz(path: Path) -> OutputsFile:
    found: dict[str, Array] = {}
    with ZipFile(path) as archive, path.open("rb") as file:
        for entry in archive.infolist():
            if entry.compress_type != ZIP_STORED:
                raise ValueError("it is compressed: write it by numpy.savez, not by savez_compressed")
            file.seek(entry.header_offset + BEFORE_NAME - 4)
            sizes = file.read(4)
            start = file.tell() + int.from_bytes(sizes[:2], "little") + int.from_bytes(sizes[2:], "little")
            found[entry.filename.removesuffix(".npy")] = _mapped(path, start, entry.file_size)
    kind = next((kind for kind in ("logits", "probabilities") if kind in found), None)
    if kind is None:
        raise ValueError("it has no array 'logits' or 'probabilities'")
    texts = {name: _texts(found[name]) for name in ("names", "classes") if name in found}
    numbers = {"digest": str(found["digest"]), "image_size": int(found["image_size"])} if "digest" in found else {}
    labels = found.get("labels")
    if labels is not None and (labels.ndim != 1 or labels.dtype.kind not in "iu"):
        raise ValueError("'labels' are not whole numbers, one an image")
    return OutputsFile(found[kind], kind, labels=labels, **texts, **numbers)  # type: ignore[arg-type]


def _mapped(path: Path, start: int, size: int) -> Array:
    """Map an array at some place of a file; its header must fit the bytes that there are.

    Raises:
        ValueError: It does not, or is not a plain array.
    """
    with path.open("rb") as file:
        file.seek(start)
        shape, is_fortran, dtype = _header(file)
        begin = file.tell()
    if dtype.hasobject or any(length < 0 for length in shape):
        raise ValueError("it holds Python objects, which are never unpickled" if dtype.hasobject else "it is damaged")
    if begin - start + prod(shape) * dtype.itemsize != size or start + size > path.stat().st_size:
        raise ValueError(f"an array of shape {shape} does not fit its {size:,} bytes")
    return np.memmap(path, dtype, "r", begin, shape, "F" if is_fortran else "C")


def _header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    read = HEADERS.get(npy.read_magic(file))
    if read is None:
        raise ValueError("it has a version of NumPy's format that is not known here")
    return read(file)


def _texts(values: Array) -> list[str]:
    if values.ndim != 1 or values.dtype.kind != "U":
        raise ValueError("names are not texts in a row")
    return [str(text) for text in values]


def _read_csv(path: Path) -> OutputsFile:
    """Read numbers, with or without a heading, and file names in the first column, as ``predict --output`` writes."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file)
        first = next(rows, [])
        heading = [] if first and _is_number(first[-1]) else first
        body = [*([] if heading else [first]), *rows]
    if not body or not body[0]:
        raise ValueError("it has no numbers")
    has_names = not _is_number(body[0][0])
    chosen = [at for at, name in enumerate(heading) if name.startswith("p(") and name.endswith(")")]
    kind = "probabilities" if chosen else None
    chosen = chosen or list(range(int(has_names), len(body[0])))
    if any(len(row) != len(body[0]) for row in body):
        raise ValueError("its rows differ in length")
    values = np.array([[float(row[at]) for at in chosen] for row in body], np.float32)
    classes = [heading[at][2:-1] if kind else heading[at] for at in chosen] if heading else None
    return OutputsFile(values, kind, [row[0] for row in body] if has_names else None, classes)


def _is_number(text: str) -> bool:
    with suppress(ValueError):
        float(text)
        return True
    return False


def in_common_folder(names: Sequence[str]) -> list[str]:
    """Return names of files without the folder that all are in."""
    names = [name.replace("\\", "/") for name in names]
    with suppress(ValueError):  # some absolute, some not
        start = len(commonpath([name.rpartition("/")[0] or "." for name in names]))
        if all(name[start : start + 1] == "/" for name in names):
            return [name[start + 1 :] for name in names]
    return names


def write_outputs(path: Path, logits: Iterable[Tensor], shape: tuple[int, int], about: Mapping[str, Any]) -> None:
    """Write logits part by part, with what is known of their images, as an uncompressed ``.npz``.

    Args:
        path: The file.
        logits: Parts of the table, (n, num_classes) each, float32.
        shape: Shape of the whole table.
        about: Further arrays by name: ``names``, ``classes``, ``labels``, ``digest``, ``image_size``.

    Raises:
        UserError: The file cannot be written.
    """
    with atomic_write(path) as temporary, ZipFile(temporary, "w", ZIP_STORED) as archive:
        with archive.open("logits.npy", "w", force_zip64=True) as file:
            npy.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
            for part in logits:
                file.write(bytes_of(part))
        for name, values in about.items():
            with archive.open(f"{name}.npy", "w") as file:
                npy.write_array(file, np.asarray(values), allow_pickle=False)
