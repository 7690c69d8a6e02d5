"""Digests: they name cached files and finished runs by their content."""

import hashlib
import sys

import torch
from torch import Tensor

ROWS_AT_ONCE = 4096
"""Rows of a tensor that are copied to main memory together."""


def digest(*parts: object, size: int = 12) -> str:
    """Return a digest of tensors and bytes as they are, and of anything else by how it prints.

    Caches and studies on disk keep these values: another encoding would make them useless.

    Args:
        parts: What to digest; file names may be in any encoding.
        size: Length of the digest in bytes.
    """
    result = hashlib.blake2b(digest_size=size)
    for part in parts:
        if isinstance(part, Tensor):
            for rows in part.unsqueeze(0) if part.ndim == 0 else part.split(ROWS_AT_ONCE):
                result.update(bytes_of(rows))
        elif isinstance(part, bytes):
            result.update(part)
        else:
            result.update(f"{part}\0".encode(errors=sys.getfilesystemencodeerrors()))
    return result.hexdigest()


def bytes_of(tensor: Tensor) -> memoryview:
    """Return a tensor's values as bytes in main memory, in the order of its dimensions."""
    return tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data
