"""The one place where an image file becomes pixels: for training, for prediction and for exported models alike.

Needs only NumPy and Pillow, so that an exported model can be used where torch is not loaded.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from itertools import chain
from math import isfinite
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from kd_lightning.errors import UserError
from kd_lightning.machine.host_memory import trim

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")  # Pillow's others include EPS, which would run a program
MAX_PIXELS = 80_000_000  # below 89 million, where Pillow's own first limit lies

LARGE = 12_600_000
"""Pixels above which an image is decoded while no other such is; a phone's photo, 4032 x 3024, is below."""

STRIP = 2**20
"""Pixels that are scaled or laid over white at once."""

Pixels = NDArray[np.uint8]

_one_of_this_process = Lock()

one_at_a_time: Callable[[], AbstractContextManager[object]] = lambda: _one_of_this_process  # noqa: E731
"""Gives what is held while a large image is decoded; processes that decode side by side share a lock."""


class BrokenImageError(UserError):
    """A file that does not hold an image that can be read.

    Attributes:
        path: The file.
        reason: What is wrong with it, a few words.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"cannot read the image {path}: {reason}; mend the file or take it away.")
        self.path = path
        self.reason = reason


def read_image(path: str | Path, image_size: int | None, channels: int = 3) -> Pixels:
    """Read an image file as ``(S, S, C)`` pixels in 0 to 255, as ``uint8``.

    The first frame is taken, turned as its EXIF orientation says; what is transparent shows white; 16-bit and
    floating-point pixels are scaled to 8 bits; it is resized to a square with antialiasing. An image that already has
    that size keeps its exact pixels.

    Args:
        path: The file: PNG, JPEG, WebP, BMP, GIF or TIFF, whatever its ending says.
        image_size: Height and width ``S`` to resize to, in pixels; ``None`` keeps the image's own.
        channels: ``C``: 3 for red, green and blue, 1 for grey.

    Raises:
        BrokenImageError: The file is missing, no image, damaged, or would decode to more than 80 million pixels.
    """
    path = Path(path)
    try:
        if not path.is_file():  # opening a pipe would wait for ever
            raise OSError("it is no ordinary file" if path.exists() else "there is no such file")
        with Image.open(path, formats=FORMATS) as image:
            return _decode(image, image_size, channels)
    except Exception as error:  # on broken input the decoders raise nearly anything: struct.error, SyntaxError, ...
        raise BrokenImageError(path, _reason(path, error)) from error


def _decode(image: Image.Image, image_size: int | None, channels: int) -> Pixels:
    """Return the pixels, ``(H, W, C)``, of a file of which only the header has been read."""
    if image.width * image.height > MAX_PIXELS:
        raise Image.DecompressionBombError
    whole = image.width * image.height
    if image_size is not None:
        image.draft(None, (2 * image_size, 2 * image_size))  # a large JPEG decodes faster at a half, quarter or eighth
    pixels = whole if image.info.get("progressive") else image.width * image.height  # its decoder holds all of it
    if pixels <= LARGE:
        return _pixels(image, image_size, channels)
    with one_at_a_time():
        result = _pixels(image, image_size, channels)
        image.close()
        trim()
    return result


def _pixels(image: Image.Image, image_size: int | None, channels: int) -> Pixels:
    image.load()
    with suppress(Exception):  # a photo whose EXIF block is damaged is still a photo
        ImageOps.exif_transpose(image, in_place=True)
    flat = _flat(image, "L" if channels == 1 else "RGB")
    if image_size is not None and flat.size != (image_size, image_size):
        flat = flat.resize((image_size, image_size), Image.Resampling.BILINEAR)
    return np.array(flat).reshape(flat.height, flat.width, channels)


def _flat(image: Image.Image, mode: str) -> Image.Image:
    """Return an image in 8 bits over white, by strips: what is wide or transparent takes ten times its memory."""
    wide = image.mode.startswith(("I", "F"))
    if not wide and not image.has_transparency_data:
        return image.convert(mode)
    rows = max(1, STRIP // image.width)
    boxes = [(0, top, image.width, min(top + rows, image.height)) for top in range(0, image.height, rows)]
    values = _value_range(image.mode, *_extremes(map(image.crop, boxes))) if wide else (0.0, 255.0)
    flat = Image.new(mode, image.size)
    for box in boxes:
        strip = image.crop(box)
        flat.paste(_over_white(_eight_bit(strip, *values) if wide else strip).convert(mode), box)
    return flat


def _extremes(strips: Iterable[Image.Image]) -> tuple[float, float]:
    """Return the smallest and the largest of wide grey pixels."""
    ends = [(float(pixels.min()), float(pixels.max())) for pixels in map(np.asarray, strips)]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    if not all(map(isfinite, chain.from_iterable(ends))):  # the least and the most of pixels with a NaN are NaN
        raise ValueError("it has pixels that are no finite numbers")
    return low, high


def _eight_bit(image: Image.Image, black: float, white: float) -> Image.Image:
    """Scale wide grey pixels to 0 to 255, where Pillow would clip them."""
    pixels = np.asarray(image).astype(np.float64)
    return Image.fromarray(np.rint((pixels - black) * (255 / (white - black))).astype(np.uint8))


def _value_range(mode: str, low: float, high: float) -> tuple[float, float]:
    """Return the values of black and white: the smallest usual range that holds all pixels, or else their own range."""
    usual = (1, 255, 65535) if mode == "F" else (65535, 2**31 - 1)
    if low < 0 or high > usual[-1]:
        return low, max(high, low + 1)
    return 0, next(white for white in usual if high <= white)


def _over_white(image: Image.Image) -> Image.Image:
    """Lay an image that has transparent pixels over white."""
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def _reason(path: Path, error: Exception) -> str:
    """Say in a few words what is wrong with a file."""
    if isinstance(error, UnidentifiedImageError):
        return "it is no image of a known format" if path.stat().st_size else "the file is empty"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"it would decode to more than {MAX_PIXELS // 10**6} million pixels"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__
