"""A contact sheet: the images with the network's predictions."""

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw

from kd_lightning.drawing import FAINT, INK, PAPER, cut, font
from kd_lightning.files import atomic_write
from kd_lightning.inference.images import PixelRange, read_image
from kd_lightning.prediction.stream import Prediction
from kd_lightning.prediction.table import percent

MAX_IMAGES = 120
MAX_COLUMNS = 12
TILE, GAP, MARGIN = 128, 18, 28
"""Pixels: an image's side, between two of them, around them all."""
HEAD, CAPTION = 40, 76
"""Pixels: height of the title, and of what is written below an image."""
LINE, SHADE = "#d0d7de", "#eff2f5"
SURE, UNSURE = "#0969da", "#d4a72c"


class Tile(NamedTuple):
    """An image, no larger than its place on the sheet, and its prediction."""

    picture: Image.Image
    prediction: Prediction


@contextmanager
def contact_sheet(
    path: Path, files: Sequence[str], model: str, threshold: float, pixel_range: PixelRange | None = None
) -> Iterator[Callable[[Prediction], None]]:
    """Yield a function that puts a prediction on the sheet, which is written when the block ends.

    Of more than 120 images, 120 are drawn, evenly spaced.

    Args:
        path: The PNG file.
        files: All images that will come.
        model: The model's name, for the title.
        threshold: Probability in [0, 1] below which a label is drawn as not sure.
        pixel_range: Values of black and white in files of more than 8 bits.

    Raises:
        UserError: The file cannot be written.
    """
    chosen = {files[number * len(files) // MAX_IMAGES] for number in range(MAX_IMAGES)}
    tiles: list[Tile] = []

    def add(prediction: Prediction) -> None:
        if prediction.image in chosen and len(tiles) < MAX_IMAGES:
            tiles.append(Tile(_picture(prediction.image, pixel_range), prediction))

    with atomic_write(path) as temporary:
        yield add
        title = f"{model}: {len(tiles)} of {len(files):,} images" + (f", ? below {threshold:.0%}" if threshold else "")
        draw_sheet(tiles, title, threshold).save(temporary)
    if len(files) > MAX_IMAGES:
        print(f"{path} shows {len(tiles)} of {len(files):,} images, evenly spaced.", file=sys.stderr)


def draw_sheet(tiles: Sequence[Tile], title: str, threshold: float) -> Image.Image:
    """Draw the tiles in rows below a title.

    Args:
        tiles: What to draw.
        title: The text above them.
        threshold: Probability in [0, 1] below which a label is drawn as not sure.
    """
    columns = min(MAX_COLUMNS, max(4, math.ceil(math.sqrt(1.6 * len(tiles)))))
    rows = math.ceil(len(tiles) / columns)
    width = 2 * MARGIN + columns * (TILE + GAP) - GAP
    sheet = Image.new("RGB", (width, 2 * MARGIN + HEAD + rows * (TILE + CAPTION)), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN - 6), cut(title, 20, width - 2 * MARGIN), INK, font(20))
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        _draw_tile(sheet, tile, MARGIN + column * (TILE + GAP), MARGIN + HEAD + row * (TILE + CAPTION), threshold)
    return sheet


def _picture(name: str, pixel_range: PixelRange | None) -> Image.Image:
    """Return an image as it fits its place: a large one made smaller, a tiny one enlarged pixel by pixel."""
    picture = Image.fromarray(read_image(name, None, pixel_range=pixel_range))
    picture.thumbnail((TILE, TILE), Image.Resampling.LANCZOS)
    times = TILE // max(picture.size)
    return picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)


def _draw_tile(sheet: Image.Image, tile: Tile, left: int, top: int, threshold: float) -> None:
    draw, bottom = ImageDraw.Draw(sheet), top + TILE
    draw.rectangle((left - 1, top - 1, left + TILE, bottom), fill=SHADE, outline=LINE)
    sheet.paste(tile.picture, (left + (TILE - tile.picture.width) // 2, top + (TILE - tile.picture.height) // 2))
    (label, probability), *others = tile.prediction.best(2)
    sure = probability >= threshold
    _draw_bar(draw, left, bottom, probability, SURE if sure else UNSURE)
    _write_class(draw, (left, bottom + 9), label if sure else f"{label}?", probability, 14, INK)
    for name, share in others:
        _write_class(draw, (left, bottom + 27), name, share, 12, FAINT)
    name = cut(tile.prediction.image, 11, TILE, keep_end=True)
    draw.text((left, bottom + 43), name, FAINT, font(11))


def _draw_bar(draw: ImageDraw.ImageDraw, left: int, top: int, share: float, colour: str) -> None:
    draw.rectangle((left - 1, top, left + TILE, top + 5), fill=SHADE, outline=LINE)
    draw.rectangle((left, top + 1, left + max(1, round(share * TILE)) - 1, top + 4), fill=colour)


def _write_class(
    draw: ImageDraw.ImageDraw, at: tuple[int, int], name: str, share: float, size: int, colour: str
) -> None:
    """Write a class's name on the left and its probability on the right of a tile's width."""
    number = percent(share).strip()
    draw.text((at[0] + TILE, at[1]), number, colour, font(size), anchor="ra")
    draw.text(at, cut(name, size, TILE - 6 - font(size).getlength(number)), colour, font(size))
