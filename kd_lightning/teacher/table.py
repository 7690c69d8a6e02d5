"""Storage of a cached teacher's tables: on the GPU, in memory or on the disk, whichever has room."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from math import prod
from pathlib import Path
from zlib import crc32

import torch
from torch import Tensor

from kd_lightning.digest import bytes_of
from kd_lightning.files import atomic_write, cache_folder

READ_AT_ONCE = 2**22
"""Bytes of a table's file that are read at once."""

CHECKSUM = 4
"""Bytes of a CRC-32."""

NOWHERE = Path(os.devnull)
"""Replaces a missing cache folder: nothing is found below it, and nothing can be written there."""

MAX_BYTES = 8 * 2**30
"""Bytes of tables that are kept for later runs, besides the newest one."""


class Storage(Enum):
    """Where a table is; the value is its name in a message."""

    DEVICE = "on the GPU"
    MEMORY = "in memory"
    DISK = "on the disk"


def choose_storage(size: int, device: torch.device, processes: int = 1) -> Storage | None:
    """Return the fastest storage for a table; it may take half of what is free there.

    Args:
        size: Bytes of the table.
        device: Where training runs.
        processes: Processes that each keep such a table in this machine's memory.
    """
    if device.type == "cuda" and size <= torch.cuda.mem_get_info(device)[0] // 2:
        return Storage.DEVICE
    if size * processes <= free_memory() // 2:
        return Storage.MEMORY
    return Storage.DISK if size <= free_disk() // 2 else None


def free_memory() -> int:
    """Return the free bytes of main memory: the machine's, or what its container leaves."""
    free = [2**63]
    with suppress(OSError, ValueError, AttributeError):
        free.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free[1:] = [next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))]
    with suppress(OSError, ValueError):  # "max" where the container has no limit of its own
        group = Path("/sys/fs/cgroup")
        free.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    return min(free)


def free_disk() -> int:
    """Return the bytes that are free on the disk of the caches; 0 where it cannot be written to."""
    folder = cache_folder()
    return shutil.disk_usage(folder).free if folder is not None and os.access(folder, os.W_OK) else 0


class TableFile:
    """A table in the cache folder: its values one after another, then their CRC-32; it is written atomically.

    Args:
        key: Everything that its values depend on.
        shape: Shape of the table.
        dtype: Type of its values.
    """

    def __init__(self, key: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        self.path = (cache_folder() or NOWHERE) / f"teacher-{key}.bin"
        self.shape = shape
        self.dtype = dtype

    def read(self) -> Tensor | None:
        """Return the memory-mapped table; ``None`` where its file is missing or damaged."""
        count = prod(self.shape)
        try:
            if not self._is_whole(count * self.dtype.itemsize):
                return None
            os.utime(self.path)  # it is in use: others are removed first
            return torch.from_file(str(self.path), shared=False, size=count, dtype=self.dtype).view(self.shape)
        except (OSError, RuntimeError):  # another process has just removed it
            return None

    def write(self, parts: Iterable[Tensor]) -> None:
        """Write the parts of a table in their order; see ``writer``."""
        with self.writer() as write:
            for part in parts:
                write(part)

    @contextmanager
    def writer(self) -> Iterator[Callable[[Tensor], None]]:
        """Yield a function that writes the next part of a table; remove old tables at the end.

        Raises:
            UserError: The folder cannot be written to, or the disk is full.
        """
        checksum = 0
        with atomic_write(self.path) as temporary, temporary.open("wb") as file:

            def append(part: Tensor) -> None:
                nonlocal checksum
                values = bytes_of(part)
                file.write(values)
                checksum = crc32(values, checksum)

            yield append
            file.write(checksum.to_bytes(CHECKSUM, "little"))
        _remove_oldest(self.path)

    def _is_whole(self, size: int) -> bool:
        """Check size and CRC-32; reading (some GB a second) leaves nothing mapped."""
        if not self.path.is_file() or self.path.stat().st_size != size + CHECKSUM:
            return False
        checksum = 0
        with self.path.open("rb") as file:
            for start in range(0, size, READ_AT_ONCE):
                checksum = crc32(file.read(min(READ_AT_ONCE, size - start)), checksum)
            return file.read() == checksum.to_bytes(CHECKSUM, "little")


def _remove_oldest(kept: Path) -> None:
    """Remove the least recently used tables while all together exceed ``MAX_BYTES``."""
    tables = {path: path.stat() for path in kept.parent.glob("teacher-*.bin")}
    size = sum(status.st_size for status in tables.values())
    for path, status in sorted(tables.items(), key=lambda item: item[1].st_mtime_ns):
        if size > MAX_BYTES and path != kept:
            with suppress(OSError):  # Windows keeps a file that another process reads
                path.unlink()
                size -= status.st_size
