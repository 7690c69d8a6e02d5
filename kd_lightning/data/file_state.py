"""A file's state, which shows by one system call whether it has changed."""

import os
from pathlib import Path
from typing import NamedTuple


class FileState(NamedTuple):
    """A state that changes with a file's content, and when another file takes its name.

    Size and modification time are not enough: copies that keep times (``cp -p``, ``tar``, ``rsync``) and two folders
    that swap names leave both as they were. But a new file has another inode, and one that is overwritten, or whose
    modification time is reset, has another change time. A file system that renumbers its files (some network drives do
    at every mount) makes all files look new, which costs time and is never wrong. Windows keeps no change time: there
    only a file that is overwritten with size and modification time kept goes unnoticed.

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
