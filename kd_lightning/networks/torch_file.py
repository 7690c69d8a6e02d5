"""Read torch files without executing code and without more memory than their size."""

import io
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from kd_lightning.errors import UserError
from kd_lightning.networks.pickle_check import MAX_BYTES, UnsafePickleError, storages_of

ZIP_START = b"PK\x03\x04"

LEGACY_PICKLES = 5
"""A file of torch before 1.6 is five pickles (magic number, version, system, content, keys), then the values."""


def read_file(path: Path) -> Any:
    """Read a torch file; its tensors are loaded to the CPU.

    Raises:
        UserError: There is no such file, it is damaged, or it holds more than tensors and plain values.
    """
    if not path.is_file():
        raise UserError(f"no model file {path}; give the path of a file that fit has written.")
    try:
        _check(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (UnsafePickleError, UnpicklingError) as error:
        raise UserError(
            f"{path} is damaged or holds pickled code, which is never run; give a file with tensors and plain values "
            "only, such as torch.save(network.state_dict(), path) writes."
        ) from error
    except Exception as error:  # zipfile and torch raise nearly anything on damaged files
        raise UserError(f"{path} is not a readable weight file; give a .pth or .ckpt file.") from error


def _check(path: Path) -> None:
    """Raise ``ValueError`` for a file that is not safe to open with torch."""
    with path.open("rb") as file:
        head = file.read(MAX_BYTES)
    if head.startswith(ZIP_START):
        _check_archive(path)
        return
    pickles = io.BytesIO(head)
    storages = [storage for _ in range(LEGACY_PICKLES) for storage in storages_of(pickles)]
    if sum(storage.size for storage in set(storages)) > path.stat().st_size:
        raise ValueError("it names more values than it has")


def _check_archive(path: Path) -> None:
    """Check an archive's directory, pickle and checksums; torch does not verify checksums."""
    with zipfile.ZipFile(path) as archive:
        sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
        if len(sizes) < len(archive.infolist()) or sum(sizes.values()) > path.stat().st_size:
            raise ValueError("an entry occurs twice or is compressed")
        pickle = next(iter(sizes)).partition("/")[0] + "/data.pkl"
        if sizes[pickle] > MAX_BYTES:
            raise UnsafePickleError("it is too long")
        if damaged := archive.testzip():
            raise ValueError(f"{damaged} is damaged")
        storages = storages_of(io.BytesIO(archive.read(pickle)))
    folder = pickle.removesuffix(".pkl")
    if any(sizes.get(f"{folder}/{storage.key}") != storage.size for storage in storages):
        raise ValueError("its values have other sizes than its pickle names")
