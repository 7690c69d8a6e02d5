"""What tells, at the cost of one system call, that a file is still the one that it was."""

import os
from pathlib import Path
from typing import NamedTuple


class FileState(NamedTuple):
    """A state that changes with a file's content, whoever changes it, and when another file takes its name.

    Size and time of writing alone do not tell: copies that keep times (``cp -p``, ``tar``, ``rsync``) and two folders
    that swap names leave both as they were. But a new file has another number, and one that is written over, or whose
    time is put back, has another time of change. A file system that numbers its files anew (some network drives do at
    every mount) makes all files look new, which costs time and is never wrong; on Windows, which keeps no time of
    change, only a file that is written over with its size and time of writing kept is not seen.

    Attributes:
        size: In bytes.
        written: When its content was last written, in ns.
        changed: When anything about it last changed, in ns; no program can choose it.
        number: The file's number (inode) in its file system.
    """

    size: int
    written: int
    changed: int
    number: int


def file_state(path: str | Path) -> FileState:
    """Return the state of the file that a path, or the link there, leads to.

    Raises:
        OSError: There is no such file.
    """
    status = os.stat(path)  # noqa: PTH116 - plain text: there may be a million
    return FileState(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
