"""Finding image files in a folder and the folders in it."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG

from PIL import Image

from kd_lightning.errors import UserError
from kd_lightning.inference.images import FORMATS, HAS_AVIF
from kd_lightning.wording import counted, shown

IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", *([".avif"] if HAS_AVIF else [])),
)
OTHER_IMAGES = (
    *(".heic", ".heif", ".jxl", ".jp2", ".svg", ".eps", ".psd", ".pdf", ".dcm", ".svs", ".ndpi"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2"),
)
"""Endings of images that are not read; some begin like a JPEG or TIFF, which is only their preview."""
NOT_IMAGES = (".txt", ".csv", ".tsv", ".json", ".xml", ".yaml", ".yml", ".md", ".html", ".py", ".log", ".ini", ".db")
"""Endings of files that may lie beside images and are not opened."""


def is_image(path: str) -> bool:
    """Whether a file is an image and not hidden: by its ending, or by its content where the ending is unknown."""
    if os.path.basename(path).startswith("."):  # noqa: PTH119 - plain text: there may be a million
        return False
    if path.lower().endswith(IMAGE_SUFFIXES):
        return True
    return _ending(path) not in OTHER_IMAGES + NOT_IMAGES and _has_bytes(path) and _holds_image(path)


def left_out_line(folder: str | Path, left_out: Counter[str]) -> str | None:
    """Return a sentence on the files in a folder that are not read, by their endings; ``None`` where all are texts."""
    if not set(left_out) - {*NOT_IMAGES}:
        return None
    listed = ", ".join(f"{count:,} {ending}" for ending, count in left_out.most_common())
    return (
        f"{counted(left_out.total(), 'file')} in {shown(folder)} {'is' if left_out.total() == 1 else 'are'} left out: "
        f"{shown(listed)}; where these are images, convert them to PNG, JPEG or TIFF."
    )


def _ending(path: str) -> str:
    return os.path.splitext(path)[1].lower()  # noqa: PTH122 - plain text: there may be a million


def _holds_image(path: str) -> bool:
    """Whether a file's first bytes are those of a format that is read."""
    try:
        with Image.open(path, formats=FORMATS):
            return True
    except Exception:  # Pillow raises nearly anything
        return False


def _has_bytes(path: str) -> bool:
    """Whether a file can be opened: opening a pipe, or a file of ``/proc``, which have no size, may wait for ever."""
    with suppress(OSError):
        status = os.stat(path)  # noqa: PTH116 - plain text: there may be a million
        return S_ISREG(status.st_mode) and status.st_size > 0
    return False


def image_names(folder: str | Path, left_out: Counter[str] | None = None) -> list[str]:
    """Find the image files in a folder and in the folders in it, sorted by path.

    Links are followed, a folder that several links lead to is read once, and hidden files and folders (``._photo.jpg``,
    ``.ipynb_checkpoints``) are left out.

    Args:
        folder: The folder to search.
        left_out: Counts the other files by their endings.

    Returns:
        Text, not paths: a million images take a fifth of the memory.

    Raises:
        UserError: It is not a folder, a folder in it cannot be read, or a link leads nowhere or to a folder above.
    """
    if not Path(folder).is_dir():
        raise UserError(f"there is no folder {folder}; give the folder that holds the images.")
    return sorted(_walk(Path(folder).as_posix(), Counter[str]() if left_out is None else left_out))


def _walk(folder: str, left_out: Counter[str]) -> Iterator[str]:
    """Yield the names of the image files below a folder, without entering a folder twice."""
    place = os.path.realpath(folder)  # plain text, as os.walk gives it
    seen = {place}

    def is_new(path: str) -> bool:
        real = os.path.realpath(path)
        if real != place and place.startswith(f"{real.rstrip('/')}/"):
            raise UserError(f"the link {path} leads to {real}, which holds it; remove the link.")
        is_first = real not in seen
        seen.add(real)
        return is_first

    for parent, folders, names in os.walk(folder, onerror=_stop, followlinks=True):
        visible = sorted(name for name in folders if not name.startswith("."))
        folders[:] = [name for name in visible if is_new(f"{parent}/{name}")]
        for path in [f"{parent}/{name}" for name in names if not name.startswith(".")]:
            if is_image(path):
                yield path
            elif os.path.islink(path) and not os.path.exists(path):  # noqa: PTH110, PTH114
                raise UserError(f"the link {path} leads nowhere that can be read; fix it or remove it.")
            else:
                left_out[_ending(path) or "without ending"] += 1


def _stop(error: OSError) -> None:
    """Stop the search at a folder that cannot be listed."""
    raise UserError(
        f"cannot read the folder {error.filename}: {error.strerror}; make it readable, or remove what leads there."
    ) from error
