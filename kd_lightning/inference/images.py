"""Read an image file as pixels: the same code for training, prediction and exported models.

Needs only NumPy and Pillow, so that an exported model can be used where torch is not loaded.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError, features

from kd_lightning.errors import UserError

HAS_AVIF = "avif" in features.modules and features.check_module("avif")  # from Pillow 11.3 on, if built with AVIF
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", *(["AVIF"] if HAS_AVIF else []))
"""Formats that are read; Pillow's others include EPS, which would run a program."""
MAX_PIXELS = 80_000_000  # below 89 million, where Pillow's own first limit lies

STRIP = 2**20
"""Pixels that are scaled or laid over white at once."""

Pixels = NDArray[np.uint8]
PixelRange = tuple[float, float]
"""The values of black and white in files of more than 8 bits."""
Narrow = Callable[[Image.Image], Image.Image]
"""Scales wider pixels to 8 bits."""

FULL_RANGE: PixelRange = (0, 65535)
NEEDS_RANGE = "it has more than 8 bits a value, and the training images have 8; convert it to 8 bits"
"""The reason for refusing an image where no range of values is known."""


class WideValues(NamedTuple):
    """The smallest and the largest value of an image of more than 8 bits, and whether they are floating-point."""

    low: float
    high: float
    floats: bool


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """An image in a table: the bytes of a file, without the file.

    Attributes:
        name: Its name in messages.
        read: Reads its bytes; ``None`` where the table has none.
        size: Their number, roughly.
        state: A text that changes with them.
    """

    name: str
    read: Callable[[], bytes | None]
    size: int
    state: str

    def __str__(self) -> str:
        return self.name


ImageFile = str | Path | EncodedImage
"""What can be read as an image."""


class BrokenImageError(UserError):
    """A file that does not hold an image that can be read.

    Attributes:
        path: The file.
        reason: What is wrong with it, a few words.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"cannot read the image {path}: {reason}; fix or remove the file.")
        self.path = path
        self.reason = reason


def read_image(
    path: ImageFile,
    image_size: int | None,
    channels: int = 3,
    pixel_range: PixelRange | None = None,
    clipped: set[str] | None = None,
) -> Pixels:
    """Read an image file as ``(S, S, C)`` pixels in 0 to 255, as ``uint8``.

    The first frame is taken, turned by its EXIF orientation; what is transparent shows white; it is resized to a
    square with antialiasing. An image that already has that size keeps its exact pixels. Values of 8 bits stay as they
    are; wider ones (16 bits, 32 bits, floating-point) are scaled by the range that all images of a data set share.

    Args:
        path: The file, or its bytes: PNG, JPEG, WebP, BMP, GIF, TIFF, PPM or AVIF, whatever its ending.
        image_size: Height and width ``S`` to resize to, in pixels; ``None`` keeps the image's own.
        channels: ``C``: 3 for red, green and blue, 1 for grey.
        pixel_range: The values of more than 8 bits that become 0 and 255; ``None`` refuses such images.
        clipped: Receives the paths of images with values outside of the range, which become 0 or 255.

    Raises:
        BrokenImageError: The file is missing, not an image, damaged, needs a range that is not given, or would decode
            to more than 80 million pixels.
    """
    note = partial((set() if clipped is None else clipped).add, str(path))
    with _opened(path) as image:
        values = _range_of(image, pixel_range)
        return _decode(image, image_size, channels, partial(_eight_bit, pixel_range=values, note=note))


def wide_values(path: ImageFile) -> WideValues:
    """Return the extreme values of an image of more than 8 bits; this reads all of its pixels.

    Raises:
        BrokenImageError: As ``read_image`` does.
    """
    with _opened(path) as image:
        if _is_deep_colour(image):
            return WideValues(0, 256 * int(np.asarray(image.convert("RGB")).max()) + 255, False)
        strips = [_finite(np.asarray(image.crop(box))) for box in _strips(image)]
        ends = [(float(strip.min()), float(strip.max())) for strip in strips]
        return WideValues(min(low for low, _ in ends), max(high for _, high in ends), image.mode == "F")


def _is_deep_colour(image: Image.Image) -> bool:
    """Whether a file of which only the header has been read has 16-bit colours, of which Pillow keeps the upper 8."""
    if image.format not in ("PNG", "TIFF") or _is_wide(image):
        return False
    return any(";16" in str(tile.args) for tile in getattr(image, "tile", ()))


def _is_wide(image: Image.Image) -> bool:
    return image.mode.startswith(("I", "F"))


def _range_of(image: Image.Image, pixel_range: PixelRange | None) -> PixelRange:
    """Return the range of an image, which 8 bits do not need; raise ``ValueError`` if the image needs another."""
    deep = _is_deep_colour(image)
    if pixel_range is None and (deep or _is_wide(image)):
        raise ValueError(NEEDS_RANGE)
    if deep and pixel_range != FULL_RANGE:
        raise ValueError(
            "16-bit colours are read only from 0 to 65535, of which the upper 8 bits are kept; convert it to 8 bits"
        )
    return pixel_range or FULL_RANGE


@contextmanager
def _opened(file: ImageFile) -> Iterator[Image.Image]:
    """Open a file and read only its header; any failure becomes a ``BrokenImageError``."""
    try:
        with Image.open(_source(file), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            yield image
    except Exception as error:  # on broken input the decoders raise nearly anything: struct.error, SyntaxError, ...
        raise BrokenImageError(Path(str(file)), _reason(file, error)) from error


def _source(file: ImageFile) -> Path | BytesIO:
    """Return what Pillow opens."""
    if isinstance(file, EncodedImage):
        if not (content := file.read()):
            raise OSError("there is no image in this row")
        return BytesIO(content)
    path = Path(file)
    if not path.is_file():  # opening a pipe would wait for ever
        raise OSError("it is not a regular file" if path.exists() else "there is no such file")
    return path


def _decode(image: Image.Image, image_size: int | None, channels: int, narrow: Narrow) -> Pixels:
    """Return the pixels, ``(H, W, C)``, of a file of which only the header has been read."""
    if image_size is not None:
        image.draft(None, (2 * image_size, 2 * image_size))  # a large JPEG decodes faster at a half, quarter or eighth
    image.load()
    with suppress(Exception):  # a photo whose EXIF block is damaged is still a photo
        ImageOps.exif_transpose(image, in_place=True)
    flat = _flat(image, "L" if channels == 1 else "RGB", narrow)
    if image_size is not None and flat.size != (image_size, image_size):
        flat = flat.resize((image_size, image_size), Image.Resampling.BILINEAR)
    return np.array(flat).reshape(flat.height, flat.width, channels)


def _flat(image: Image.Image, mode: str, narrow: Narrow) -> Image.Image:
    """Return an image in 8 bits over white, by strips: a wide or transparent one takes ten times its memory."""
    wide = _is_wide(image)
    if not wide and not image.has_transparency_data:
        return image.convert(mode)
    flat = Image.new(mode, image.size)
    for box in _strips(image):
        strip = image.crop(box)
        flat.paste(_over_white(narrow(strip) if wide else strip).convert(mode), box)
    return flat


def _strips(image: Image.Image) -> list[tuple[int, int, int, int]]:
    rows = max(1, STRIP // image.width)
    return [(0, top, image.width, min(top + rows, image.height)) for top in range(0, image.height, rows)]


def _eight_bit(image: Image.Image, *, pixel_range: PixelRange, note: Callable[[], None]) -> Image.Image:
    """Scale wide grey pixels to 0 to 255, where Pillow would clip them to 8 bits; note where some lie outside."""
    low, high = pixel_range
    values = np.rint((_finite(np.asarray(image)).astype(np.float64) - low) * (255 / (high - low)))
    if values.min() < 0 or values.max() > 255:
        note()
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def _finite(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return pixels, after checking them."""
    if not np.isfinite(pixels).all():
        raise ValueError("it has pixels that are not finite")
    return pixels


def _over_white(image: Image.Image) -> Image.Image:
    """Lay an image that has transparent pixels over white."""
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def _reason(file: ImageFile, error: Exception) -> str:
    """Describe in a few words what is wrong with a file."""
    if isinstance(error, UnidentifiedImageError):
        is_empty = not isinstance(file, EncodedImage) and not Path(file).stat().st_size
        return "the file is empty" if is_empty else "it is not an image of a known format"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"it would decode to more than {MAX_PIXELS // 10**6} million pixels"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__
