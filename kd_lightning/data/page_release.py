"""Keeps what was read from a large memory map from adding up in this process's memory."""

import mmap
import time
import weakref
from pathlib import Path
from threading import Thread

from kd_lightning.inference.images import Pixels

LARGE = 2**30
"""Bytes of a map that is watched; smaller ones may stay in memory, where they are read faster."""
BUDGET = 2**29
"""Bytes that may be mapped into memory before they are given back."""
SECONDS = 0.05
STATM = Path("/proc/self/statm")


def release_pages(images: Pixels) -> None:
    """Watch a memory map for as long as it is used; give its pages back whenever half a gigabyte more is in memory.

    Only Linux tells. The pages stay in the system's cache, from which they come back fast. The system would reclaim
    them itself when it is short of memory, but until then they count as this process's own.

    Args:
        images: The map, as ``np.load`` gives it; a small one, or an array in memory, is left alone.
    """
    pages = images.base
    if isinstance(pages, mmap.mmap) and images.nbytes > LARGE and STATM.exists():
        Thread(target=_watch, args=(weakref.ref(pages),), daemon=True, name="release_pages").start()


def _watch(reference: "weakref.ref[mmap.mmap]") -> None:
    before = _bytes_of_files()
    while (pages := reference()) is not None:
        if _bytes_of_files() - before > BUDGET:
            pages.madvise(mmap.MADV_DONTNEED)
            before = _bytes_of_files()
        del pages
        time.sleep(SECONDS)


def _bytes_of_files() -> int:
    """Return how much of this process's resident memory belongs to files."""
    return int(STATM.read_text().split()[2]) * mmap.PAGESIZE
