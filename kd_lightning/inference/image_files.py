"""Finding image files in a folder and the folders in it."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from kd_lightning.errors import UserError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")

FolderId = tuple[int, int]
"""Device and number (inode), which are the same by whatever links a folder is reached."""


def is_image(name: str) -> bool:
    """Whether a file counts as an image: by its ending, in upper or lower case, unless it is hidden."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")


def image_names(folder: str | Path, taken: dict[FolderId, str] | None = None) -> list[str]:
    """Find the image files in a folder and in the folders in it, sorted by path.

    Links are followed, a folder that several links lead to is read once, and hidden files and folders (``._photo.jpg``,
    ``.ipynb_checkpoints``) are left out.

    Args:
        folder: The folder to search.
        taken: Folders whose images belong to something else, and what they are called; those that are read are added.

    Returns:
        Text, not paths: a million images take a fifth of the memory.

    Raises:
        UserError: It is no folder, a folder in it cannot be read, or a link leads nowhere, to a folder around this one
            or to one that is taken.
    """
    if not Path(folder).is_dir():
        raise UserError(f"there is no folder {folder}; give the folder that holds the images.")
    around = {folder_id(parent): str(parent) for parent in Path(folder).resolve().parents}
    found: dict[FolderId, str] = {}
    names = sorted(_walk(Path(folder).as_posix(), found, {**around, **(taken or {})}))
    if taken is not None:
        taken |= found
    return names


def folder_id(folder: str | Path) -> FolderId:
    """Return what tells a folder from all others.

    Raises:
        UserError: It is not there any more, or what leads to it may not be read.
    """
    try:
        status = os.stat(folder)  # noqa: PTH116 - plain text, as os.walk gives it
    except OSError as error:
        raise UserError(_unreadable(folder, error)) from error
    return status.st_dev, status.st_ino


def _walk(folder: str, found: dict[FolderId, str], taken: Mapping[FolderId, str]) -> Iterator[str]:
    """Yield the names of the image files below a folder, without entering a folder twice."""

    def is_new(path: str) -> bool:
        identity = folder_id(path)
        if identity in taken and taken[identity] != folder:
            raise UserError(
                f"{path} and {taken[identity]} are the same folder, whose images would count for both; "
                "remove the link that leads there."
            )
        return found.setdefault(identity, path) == path

    is_new(folder)
    for parent, folders, names in os.walk(folder, onerror=_stop, followlinks=True):
        visible = sorted(name for name in folders if not name.startswith("."))
        folders[:] = [name for name in visible if is_new(f"{parent}/{name}")]
        for name in names:
            if is_image(name):
                yield f"{parent}/{name}"
            elif not name.startswith("."):
                _check_link(f"{parent}/{name}")


def _check_link(path: str) -> None:
    """Raise if what may have been a folder of images is a link that leads nowhere."""
    if os.path.islink(path) and not os.path.exists(path):  # noqa: PTH110, PTH114 - plain text, as os.walk gives it
        raise UserError(f"the link {path} leads nowhere that can be read; mend it or remove it.")


def _stop(error: OSError) -> None:
    """Stop the search at a folder that cannot be listed."""
    raise UserError(_unreadable(error.filename, error)) from error


def _unreadable(folder: str | Path, error: OSError) -> str:
    return f"cannot read the folder {folder}: {error.strerror}; make it readable, or remove what leads there."
