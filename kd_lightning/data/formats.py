"""The file formats of the well-known data sets, read into arrays without executing anything in a file."""

import gzip
import pickle
import tarfile
import zlib
from collections.abc import Container
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kd_lightning.errors import UserError
from kd_lightning.files import atomic_write

MAX_BYTES = 2**28
"""Bytes that are read of an unknown file; the largest of the well-known files has 47 million."""

Labelled = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""Images ``(N, H, W, C)`` and class indices ``(N,)``."""


class _ArrayUnpickler(pickle.Unpickler):
    """Builds numpy arrays and refuses every other function or class that a pickle may name."""

    ALLOWED = frozenset({("numpy.core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype")})

    def find_class(self, module_name: str, global_name: str) -> object:
        if (module_name, global_name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"{module_name}.{global_name} is not part of an array")
        return super().find_class(module_name, global_name)


def read_cifar(path: Path) -> Labelled:
    """Read a batch of CIFAR-10 or CIFAR-100, which is a pickled dict of an array and lists.

    Raises:
        UserError: The file names anything but arrays, or is not such a batch.
    """
    try:
        with path.open("rb") as file:
            batch = _ArrayUnpickler(file, encoding="latin1").load()
        images = batch["data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)  # planes -> pixels
        labels = batch["labels"] if "labels" in batch else batch["fine_labels"]
        return np.ascontiguousarray(images, dtype=np.uint8), np.asarray(labels, dtype=np.int64)
    except (pickle.UnpicklingError, EOFError, KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path} is not a batch of CIFAR images ({error}); delete it to unpack it again.") from error


def unpack(archive: Path, names: Container[str], folder: Path) -> None:
    """Write the named files of a tar archive into a folder, each atomically; nothing else is unpacked."""
    with tarfile.open(archive) as tar:
        for member in tar:
            name = Path(member.name).name
            if name in names and (source := tar.extractfile(member)) is not None:
                with atomic_write(folder / name) as path:
                    path.write_bytes(source.read())


def read_bytes(path: Path) -> bytes:
    """Return a file's bytes, at most ``MAX_BYTES``, decompressed if it ends in ``.gz``; none where that fails."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return file.read(MAX_BYTES)
    except (OSError, EOFError, zlib.error):
        return b""


def idx_array(data: bytes) -> NDArray[np.uint8]:
    """Return the array that the bytes of an idx file of unsigned bytes hold (http://yann.lecun.com/exdb/mnist/)."""
    dimensions = data[3]
    shape = np.frombuffer(data, dtype=">i4", count=dimensions, offset=4)
    return np.frombuffer(data, dtype=np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def read_svhn(path: Path) -> Labelled:
    """Read one of SVHN's MATLAB files, where label 10 stands for the digit 0.

    Raises:
        UserError: scipy, which reads MATLAB files, is not installed.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise UserError("SVHN's files are read with scipy, which is not installed: pip install scipy.") from error
    content = loadmat(path)
    images = np.ascontiguousarray(content["X"].transpose(3, 0, 1, 2), dtype=np.uint8)  # (H, W, C, N) -> (N, H, W, C)
    return images, content["y"].reshape(-1).astype(np.int64) % 10
