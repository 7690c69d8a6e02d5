"""Weights in the hub's format: tensors without pickled code, and what prediction needs in the header."""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from kd_lightning.errors import UserError
from kd_lightning.inference.model_info import ModelInfo, read_metadata
from kd_lightning.wording import shown

ENDING = ".safetensors"

MAX_HEADER = 2**24
"""Bytes of the header of an untrusted file; a network of 1,000 layers has some 100,000."""


def to_safetensors(state_dict: Mapping[str, Tensor], info: ModelInfo) -> bytes:
    """Return the content of a file; each name gets its own values, also where a network shares them."""
    tensors = {name: tensor.clone().contiguous() for name, tensor in state_dict.items()}
    return save(tensors, {"format": "pt", **info.to_metadata()})


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Return a file's tensors, and the plain values of its ``ModelInfo``; ``None`` where it has none.

    Raises:
        UserError: It is damaged, or its header is too long.
    """
    try:
        _check_header(path)
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - it is not a dict
            metadata = file.metadata() or {}
        return tensors, read_metadata(metadata) if "network" in metadata else None
    except (SafetensorError, OSError, ValueError) as error:
        raise UserError(
            f"{path} is not a readable safetensors file ({shown(error)}); download it again, or write it with fit."
        ) from error


def _check_header(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(8)
    size = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
    if not 2 <= size <= MAX_HEADER:
        raise ValueError(f"its header has {size:,} bytes, not 2 to {MAX_HEADER:,}")
