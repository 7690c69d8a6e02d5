"""Files that are written whole or not at all, and where those that can be made again are kept."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kd_lightning.errors import UserError


@contextmanager
def written_whole(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside ``path`` to write to; rename it to ``path`` when the block ends without an error.

    Args:
        path: The file to write; its folder is made where it is missing.

    Raises:
        UserError: The folder cannot be written to, or the disk is full. Nothing is left behind.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes private files; these are ordinary ones
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; free or choose another folder.") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def cache_folder() -> Path:
    """Return ``kd_lightning`` in the user's folder of caches, which ``XDG_CACHE_HOME`` can name."""
    caches = os.environ.get("XDG_CACHE_HOME")
    return (Path(caches) if caches else Path.home() / ".cache") / "kd_lightning"
