"""How main memory is handed out while a CPU trains."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
"""Names of the settings of glibc's ``mallopt``."""


def keep_freed_memory() -> None:
    """Keep the memory of a step's tensors for the next step, whose tensors are as large.

    By default glibc gets fresh pages from the kernel for every large tensor and returns them when it is freed; clearing
    those pages takes a quarter of a training step. With another C library this does nothing.
    """
    _set({MMAP_MAX: 0, TRIM_THRESHOLD: 2**31 - 1})


def return_freed_memory() -> None:
    """Restore glibc's behaviour after its first large tensors, and return free memory to the kernel."""
    _set({MMAP_MAX: 65536, MMAP_THRESHOLD: 2**25, TRIM_THRESHOLD: 2**26})
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Keep freed memory while many batches go through a network one after another."""
    keep_freed_memory()
    try:
        yield
    finally:
        return_freed_memory()


def _set(values: dict[int, int]) -> None:
    with suppress(AttributeError, OSError, TypeError):  # not glibc
        for name, value in values.items():
            ctypes.CDLL(None).mallopt(name, value)
