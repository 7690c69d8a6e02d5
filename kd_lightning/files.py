"""Files that are written atomically, names that stay in their folder, and the folder of caches."""

import errno
import hashlib
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from kd_lightning.errors import UserError
from kd_lightning.machine import stopping

TEMP_FOLDER = ".kd_lightning-"
"""How the names of temporary folders begin. They are hidden: no glob for results matches their files."""

LONGEST_NAME = 200
"""Bytes of a name at most; file systems take 255."""

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""The system's errors where nothing more can be written."""


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path to write to; it is renamed to ``path`` when the block ends without an error.

    A kill or a power cut leaves the old file, or none, at ``path``, never half a file.

    Args:
        path: The file to write; its folder is made where it is missing.

    Raises:
        UserError: The folder cannot be written to, or the disk is full. Nothing is left.
    """
    path = Path(path)
    with writing(path), temp_folder(path.parent) as work:
        temporary = work / path.name
        temporary.touch()
        yield temporary
        put_in_place(temporary, path)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise ``UserError`` where the system cannot write ``path``."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; free space or choose another folder."
        ) from error


@contextmanager
def temp_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty hidden folder in ``folder``, so that finished files are only renamed; it is removed afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=TEMP_FOLDER, dir=folder, ignore_cleanup_errors=True) as name:
        stopping.unfinished.add(Path(name))
        try:
            yield Path(name)
        finally:
            stopping.unfinished.discard(Path(name))


def put_in_place(source: Path, target: Path) -> None:
    """Rename a finished file, after its bytes have reached the disk."""
    _sync(source, os.O_RDWR)
    source.replace(target)
    with suppress(OSError):  # Windows and some network disks cannot do that with a folder
        _sync(target.parent, os.O_RDONLY)


def _sync(path: Path, access: int) -> None:
    number = os.open(path, access)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def plain_name(name: str, endings: str | tuple[str, ...], key: str) -> str:
    """Return the name of a file to write, which must not lead out of its folder.

    Args:
        name: The name.
        endings: How it must end, so that it replaces no other file: one ending, or any of several.
        key: The option, for the message.

    Raises:
        UserError: It is not a plain name.
    """
    first, *others = [endings] if isinstance(endings, str) else endings
    plain = name.isprintable() and not name.startswith(".") and not {"/", "\\", ":"} & set(name)
    if not plain or not name.endswith(endings) or len(os.fsencode(name)) > LONGEST_NAME:
        raise UserError(
            f"{key} is {name[:LONGEST_NAME]!r}, but it must be a plain file name in the run's folder that ends in "
            f"{' or '.join([first, *others])}, such as network{first}."
        )
    return name


def disk_full_message(error: BaseException) -> str | None:
    """Return the message for an error that a full or read-only disk has caused; ``None`` for any other error."""
    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, OSError) and cause.errno in DISK_FULL:
            place = f" {cause.filename}" if cause.filename else ""
            message = next((str(other) for other in causes if isinstance(other, UserError)), None)
            return message or f"cannot write{place}: {cause.strerror}; free space, or choose another folder."
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, its cause, the cause of that, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


@contextmanager
def one_process_at_a_time(lock: Path, say: Callable[[], None], patience: float = 0.0) -> Iterator[None]:
    """Run a block while no other process of this machine runs it with the same lock file.

    Args:
        lock: The lock file; it stays, and the system unlocks it when a process ends, however it ends.
        say: Says that this process waits, once ``patience`` is over.
        patience: Seconds.
    """
    held = FileLock(lock)
    try:
        held.acquire(timeout=patience)
    except Timeout:
        say()
        held.acquire()
    try:
        yield
    finally:
        held.release()


def cache_folder() -> Path | None:
    """Return ``kd_lightning`` in the user's folder of caches, which ``XDG_CACHE_HOME`` can name; it is made.

    Only the user can read it, and another user's folder is not used. Without a folder a warning appears once, and the
    answer is ``None``.
    """
    try:
        caches = os.environ.get("XDG_CACHE_HOME")
        folder = (Path(caches) if caches else Path.home() / ".cache") / "kd_lightning"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
            raise PermissionError(errno.EPERM, "it is another user's", str(folder))
        folder.chmod(0o700)
    except (OSError, RuntimeError) as error:  # RuntimeError: no HOME, and no user entry
        _warn_once(f"{error.strerror}: {error.filename}" if isinstance(error, OSError) else str(error).rstrip("."))
        return None
    return folder


@cache
def _warn_once(reason: str) -> None:
    if stopping.is_rank_zero():
        warnings.warn(f"nothing is cached ({reason}); name a folder of yours with XDG_CACHE_HOME.", stacklevel=1)


class FileState(NamedTuple):
    """A state that changes with a file's content, and when another file takes its name.

    Size and modification time are not enough: copies that keep times (``cp -p``, ``tar``, ``rsync``) and two folders
    that swap names leave both as they were. But a new file has another inode, and one that is overwritten, or whose
    modification time is reset, has another change time (Windows has none).

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


def file_state(path: str | Path) -> FileState | None:
    """Return the state of the file that a path, or the link there, leads to; ``None`` where there is no such file."""
    try:
        status = os.stat(path)  # noqa: PTH116 - plain text: there may be a million
    except OSError:
        return None
    return FileState(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def file_digest(path: Path, kind: str = "sha256") -> str:
    """Return a file's SHA-256, or another digest that ``hashlib`` knows, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, partial(hashlib.new, kind, usedforsecurity=False)).hexdigest()
