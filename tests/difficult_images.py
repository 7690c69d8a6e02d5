"""A folder with one image of each format and mode, and with files that are not images."""

import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from kd_lightning.inference.images import Pixels

SIZE = 32
BOMB_SIDE = 51_640  # pixels; 8 GB when decoded


class DifficultImages(NamedTuple):
    good: list[Path]
    broken: list[Path]


def picture(height: int = SIZE, width: int = SIZE) -> Pixels:
    """A smooth picture (H, W, 3) without any symmetry, of few enough colours for a palette."""
    y, x = np.mgrid[:height, :width]
    y, x = 8 * y // height, 8 * x // width
    return np.stack([20 + 30 * x, 25 * y, 10 * (x + y)], axis=-1).astype(np.uint8)


def write_difficult_images(folder: Path) -> DifficultImages:
    """Write them all into a new folder, and return their paths, each list sorted."""
    (folder / "nested" / "deeper").mkdir(parents=True)
    return DifficultImages(sorted(_write_good(folder)), sorted(_write_broken(folder)))


def _write_good(folder: Path) -> list[Path]:
    colour = Image.fromarray(picture())
    grey = colour.convert("L")
    mask = Image.fromarray(np.where(np.arange(SIZE) < SIZE // 2, 255, 0).astype(np.uint8)[None].repeat(SIZE, 0))
    wide = np.asarray(grey).astype(np.uint16) * 257
    rgba, grey_alpha, palette = colour.copy(), grey.convert("LA"), colour.quantize(64)
    rgba.putalpha(mask)
    grey_alpha.putalpha(mask)
    turned = Image.Exif()
    turned[0x0112] = 6
    images = {
        "rgb.png": colour,
        "rgb.webp": colour,
        "rgb.bmp": colour,
        "UPPER.JPG": colour,
        "nested/deeper/photo.jpeg": colour,
        "größe 1.png": colour,
        "grey.png": grey,
        "grey_alpha.png": grey_alpha,
        "palette.png": palette,
        "rgba.png": rgba,
        "rgba.webp": rgba,
        "rgba.tif": rgba,
        "cmyk.jpg": colour.convert("CMYK"),
        "cmyk.tiff": colour.convert("CMYK"),
        "sixteen_bit.png": Image.fromarray(wide),
        "sixteen_bit.tif": Image.fromarray(wide),
        "integers.tif": Image.fromarray(wide.astype(np.int32)),
        "floats.tif": Image.fromarray(wide.astype(np.float32)),
        "one_bit.png": colour.convert("1"),
        "one_bit.tif": colour.convert("1"),
    }
    for name, image in images.items():
        image.save(folder / name)
    colour.save(folder / "animated.gif", save_all=True, append_images=[grey.convert("RGB")])
    colour.save(folder / "pages.tif", save_all=True, append_images=[grey.convert("RGB")])
    palette.save(folder / "palette_transparent.png", transparency=0)
    colour.rotate(90).save(folder / "turned.jpg", exif=turned)
    colour.resize((300, 200)).save(folder / "progressive.jpg", progressive=True)
    (folder / "link.png").symlink_to("rgb.png")
    further = ("animated.gif", "pages.tif", "palette_transparent.png", "turned.jpg", "progressive.jpg", "link.png")
    return [folder / name for name in (*images, *further)]


def _write_broken(folder: Path) -> list[Path]:
    jpeg, png = (folder / "progressive.jpg").read_bytes(), (folder / "rgb.png").read_bytes()
    contents = {
        "truncated.jpg": jpeg[: len(jpeg) // 2],
        "truncated.png": png[: len(png) // 2],
        "header_only.png": png[:20],
        "text.png": b"This is no image.\n" * 10,
        "empty.png": b"",
        "bomb.png": png_of_zeros(BOMB_SIDE),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / "dangling.jpg").symlink_to("nowhere.jpg")
    return [folder / name for name in (*contents, "dangling.jpg")]


def png_of_zeros(side: int) -> bytes:
    """A correct PNG of side x side black pixels, made in a moment however large: its data is one block repeated."""
    size = side * (3 * side + 1)
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = compressor.compress(bytes(2**20)) + compressor.flush(zlib.Z_FULL_FLUSH)
    end = zlib.compressobj(9, zlib.DEFLATED, -15)
    rest = end.compress(bytes(size % 2**20)) + end.flush()
    checksum = struct.pack(">HH", size % 65521, 1)  # Adler-32 of zeros
    data = b"\x78\xda" + block * (size // 2**20) + rest + checksum
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk of a PNG file with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
