"""Rows of a memory map, requested from the disk all at once before they are read."""

import mmap
from collections.abc import Callable
from math import prod

import numpy as np
from torch import Tensor

from kd_lightning.inference.images import Pixels

SMALL = 2**30
"""Bytes up to which no row is requested: the start reads the whole file, which then stays in memory."""


def row_reader(images: Pixels) -> Callable[[Tensor], None] | None:
    """Return a function that asks the system to read rows, ``(B,)`` int64, from the disk; it does not wait for them.

    Without such a request a shuffled batch waits for the disk page after page, and the kernel reads megabytes around
    each: a hundred times as long as reading all its rows at once.

    Args:
        images: An array ``(N, ...)``. The answer is ``None`` where it is not a memory map, where it is small, and on
            systems that take no such requests.
    """
    if not isinstance(images, np.memmap) or images.nbytes <= SMALL or not hasattr(mmap, "MADV_WILLNEED"):
        return None
    mapped: mmap.mmap = images._mmap  # type: ignore[attr-defined]
    size, begin = prod(images.shape[1:]) * images.itemsize, images.offset % mmap.ALLOCATIONGRANULARITY

    def request(rows: Tensor) -> None:
        for row in rows.tolist():
            start = begin + row * size
            page = start - start % mmap.PAGESIZE
            mapped.madvise(mmap.MADV_WILLNEED, page, start + size - page)

    return request
