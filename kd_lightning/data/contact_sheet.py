"""A contact sheet of the data: examples of every class, as stored and as augmented."""

from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional
from torchvision.utils import make_grid

from kd_lightning.data.augment import Pipeline
from kd_lightning.data.base import ImageDataModule
from kd_lightning.data.unlabelled import UNLABELLED
from kd_lightning.drawing import FAINT, INK, PAPER, cut, font

MARGIN, GAP, NAMES, HEAD = 16, 2, 150, 26
"""Pixels: around the sheet's parts, between two images, for the classes' names, and for the headings."""
FONT_SIZE = 14


def training_sheet(data: ImageDataModule) -> Image.Image:
    """Draw the contact sheet of a data source's training images, as stored and as augmented."""
    (images, labels), rows = data.train_rows()
    names, labels = with_unlabelled_class(data.class_names, labels)
    return contact_sheet(images, labels, names, data.pipeline, rows)


def with_unlabelled_class(class_names: Sequence[str], labels: Tensor) -> tuple[Sequence[str], Tensor]:
    """Return class names and labels with one more class, ``unlabelled``, where there are such images."""
    lacks = labels == UNLABELLED
    if not lacks.any():
        return class_names, labels
    return (*class_names, "unlabelled"), labels.where(~lacks, len(class_names))


def contact_sheet(
    images: Tensor,
    labels: Tensor,
    class_names: Sequence[str],
    augment: Pipeline | None = None,
    rows: Tensor | None = None,
    *,
    per_class: int = 8,
    max_classes: int = 40,
    epoch: int = 0,
) -> Image.Image:
    """Draw a line for each class: name, number of images, the first images, and the same images augmented.

    Args:
        images: ``(N, H, W, C)`` uint8, grey or colour.
        labels: ``(N,)`` int64.
        class_names: Names in the order of the labels.
        augment: The augmentations of training; without any, there is no augmented part.
        rows: Rows of ``images`` to take, int64; all where it is ``None``.
        per_class: Images of a class, 1 or more.
        max_classes: Classes with a line of their own; a last line counts the others.
        epoch: The epoch whose augmentation is shown.
    """
    rows = torch.arange(len(labels)) if rows is None else rows.cpu()
    own = labels.cpu()[rows]
    counts = torch.bincount(own, minlength=len(class_names)).tolist()
    examples = [group[:per_class] for group in rows[own.argsort(stable=True)].split(counts)][:max_classes]
    chosen = torch.cat(examples).to(images.device)
    pixels = images[chosen].permute(0, 3, 1, 2)  # (K, H, W, C) -> (K, C, H, W)
    parts = {"as stored": pixels}
    if augment is not None and augment.steps:
        names = ", ".join(type(step).__name__ for step in augment.steps)
        parts[f"augmented: {names}"] = augment(pixels, labels.to(images.device)[chosen], chosen, epoch)[0]
    tile = _tile_size(images.shape[1])
    width = per_class * (tile + GAP) - GAP + MARGIN
    foot = HEAD if len(class_names) > len(examples) else 0
    height = 2 * MARGIN + HEAD + len(examples) * (tile + GAP) + foot
    sheet = Image.new("RGB", (MARGIN + NAMES + len(parts) * width, height), PAPER)
    _write_names(ImageDraw.Draw(sheet), class_names, counts, len(examples), tile)
    for number, (heading, pictures) in enumerate(parts.items()):
        left = MARGIN + NAMES + number * width
        sheet.paste(_grid(pictures, examples, per_class, tile), (left - GAP, MARGIN + HEAD - GAP))
        _write(ImageDraw.Draw(sheet), (left, MARGIN), heading, width - MARGIN)
    return sheet


def _tile_size(image_size: int) -> int:
    """Return the side of an image on the sheet: a whole multiple of small ones, at most 128 pixels for large ones."""
    return image_size * max(1, 64 // image_size) if image_size <= 128 else 128


def _grid(images: Tensor, examples: Sequence[Tensor], per_class: int, tile: int) -> Image.Image:
    """Lay images (K, C, H, W) with values of 0 to 255 out in a line for each class, white where it has fewer."""
    small = images.shape[2] <= tile
    resized = functional.interpolate(
        images.cpu().float(), tile, mode="nearest" if small else "bilinear", antialias=not small
    )
    places = [line * per_class + column for line, rows in enumerate(examples) for column in range(len(rows))]
    cells = torch.full((len(examples) * per_class, *resized.shape[1:]), 255.0)
    cells[places] = resized.round().clamp(0, 255)
    grid = make_grid(cells, nrow=per_class, padding=GAP, pad_value=255)
    return Image.fromarray(grid.to(torch.uint8).permute(1, 2, 0).numpy())


def _write_names(
    draw: ImageDraw.ImageDraw, class_names: Sequence[str], counts: list[int], lines: int, tile: int
) -> None:
    top = MARGIN + HEAD
    for line in range(lines):
        middle = top + line * (tile + GAP) + tile // 2
        _write(draw, (MARGIN, middle - FONT_SIZE - 2), class_names[line], NAMES - MARGIN)
        _write(draw, (MARGIN, middle + 2), f"{counts[line]:,}", NAMES - MARGIN, FAINT)
    if len(class_names) > lines:
        rest = f"and {len(class_names) - lines} more classes with {sum(counts[lines:]):,} images"
        _write(draw, (MARGIN, top + lines * (tile + GAP) + GAP), rest, NAMES * 4, FAINT)


def _write(draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, width: int, colour: str = INK) -> None:
    """Write one line of text, cut to ``width`` pixels."""
    draw.text(at, cut(text, FONT_SIZE, width), fill=colour, font=font(FONT_SIZE))
