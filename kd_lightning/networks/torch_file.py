"""Read torch files without executing code and without more memory than their size."""

import io
import pickletools
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import IO, Any

import torch

from kd_lightning.errors import UserError

ZIP_START = b"PK\x03\x04"

LEGACY_PICKLES = 5
"""A file of torch before 1.6 begins with five pickles (magic number, version, system, content, keys)."""

NAMES = {
    "__builtin__ set",
    "builtins set",
    "collections Counter",
    "collections OrderedDict",
    "torch Size",
    "torch device",
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_tensor_v2",
}
"""What files of tensors and plain values name, besides storages.

torch also allows ``bytearray``, with which a file of 1 kB fills the memory, and quantized tensors, whose strides it did
not check (https://github.com/pytorch/pytorch/issues/184652).
"""


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
    except UnpicklingError as error:
        raise UserError(
            f"{path} is damaged or holds pickled code, which is never run; give a file with tensors and plain values "
            "only, such as torch.save(network.state_dict(), path) writes."
        ) from error
    except Exception as error:  # zipfile, pickletools and torch raise nearly anything on damaged files
        raise UserError(f"{path} is not a readable weight file; give a .pth or .ckpt file.") from error


def _check(path: Path) -> None:
    """Refuse compressed entries, damaged ones (torch does not verify checksums), and pickles that name other things."""
    with path.open("rb") as file:
        if file.read(len(ZIP_START)) != ZIP_START:
            file.seek(0)
            for _ in range(LEGACY_PICKLES):
                _check_names(file)
            return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > path.stat().st_size or archive.testzip():
            raise ValueError("an entry is compressed or damaged")
        for entry in entries:
            if entry.filename.lower().endswith(".pkl"):
                _check_names(io.BytesIO(archive.read(entry)))


def _check_names(pickle: IO[bytes]) -> None:
    for opcode, name, _ in pickletools.genops(pickle):
        is_storage = str(name).startswith("torch ") and str(name).endswith("Storage")
        if opcode.name == "GLOBAL" and name not in NAMES and not is_storage:
            raise UnpicklingError(f"it names {name}")
