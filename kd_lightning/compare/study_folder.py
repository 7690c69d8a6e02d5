"""The folder of a study; one ``compare`` at a time works in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from kd_lightning.errors import UserError
from kd_lightning.files import writing


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Lock a study's folder for this process; the system releases the lock when the process ends, however it ends.

    Raises:
        UserError: Another compare is at work in it, or it cannot be written.
    """
    lock = FileLock(folder / ".lock", timeout=0)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            raise UserError(
                f"another compare is at work in {folder}; wait for its end, or give this one another --output."
            ) from None
    try:
        yield
    finally:
        lock.release()
