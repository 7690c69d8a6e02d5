"""Image files with digits, of many formats and sizes, for the test of the web page."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from export_example import held_out_split
from numpy.typing import NDArray
from PIL import Image

SIZES = ((8, 8), (13, 21), (32, 32), (100, 80), (320, 240), (165, 500))  # width, height
TURNED = 6  # EXIF: the camera was held upright


def _save_photo(image: Image.Image, path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = TURNED
    image.rotate(90, expand=True).save(path.with_suffix(".jpg"), quality=90, exif=exif)


def _save_transparent(image: Image.Image, path: Path) -> None:
    alpha = Image.linear_gradient("L").resize(image.size).point(lambda value: 128 + value // 2)
    image.putalpha(alpha)
    image.save(path.with_suffix(".png"))


SAVERS: tuple[Callable[[Image.Image, Path], None], ...] = (
    lambda image, path: image.save(path.with_suffix(".png")),
    lambda image, path: image.save(path.with_suffix(".jpg"), quality=90),
    lambda image, path: image.save(path.with_suffix(".webp"), quality=90),
    lambda image, path: image.save(path.with_suffix(".bmp")),
    lambda image, path: image.save(path.with_suffix(".gif")),
    lambda image, path: image.convert("L").save(path.with_suffix(".png")),
    _save_photo,
    _save_transparent,
)


def write_images(folder: Path, count: int) -> list[Path]:
    """Write digits in random colours to a folder; return their paths in order."""
    random = np.random.default_rng(0)
    pixels = held_out_split()[0].numpy()
    for number in range(count):
        ink, paper = random.integers(170, 256, 3), random.integers(0, 70, 3)
        size = SIZES[number % len(SIZES)]
        save = SAVERS[number // len(SIZES) % len(SAVERS)]
        save(_coloured(pixels[number, :, :, 0], ink, paper, size), folder / f"{number:03}")
    return sorted(folder.iterdir())


def _coloured(
    digit: NDArray[np.uint8], ink: NDArray[np.int64], paper: NDArray[np.int64], size: tuple[int, int]
) -> Image.Image:
    """Draw a digit (8, 8) with two colours at a size, with noise of its own on each pixel."""
    large = np.asarray(Image.fromarray(digit).resize(size, Image.Resampling.BICUBIC)) / 255.0
    colours = paper + large[..., None] * (ink - paper)
    noise = np.random.default_rng(int(digit.sum())).normal(0, 12, colours.shape)
    return Image.fromarray(np.clip(colours + noise, 0, 255).astype(np.uint8))
