"""A contact sheet of the data: examples of every class, as stored and as augmented."""

from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from kd_lightning.data.augment import Pipeline
from kd_lightning.data.base import ImageDataModule
from kd_lightning.drawing import FAINT, INK, PAPER, cut, font

MARGIN, GAP, NAMES, HEAD = 16, 2, 150, 26
"""Pixels: around the sheet's parts, between two images, for the classes' names, and for the headings."""
FONT_SIZE = 14


def training_sheet(data: ImageDataModule) -> Image.Image:
    """Draw the contact sheet of a data source's training images, as stored and as augmented."""
    (images, labels), rows = data.train_rows()
    return contact_sheet(images, labels, data.class_names, data.pipeline, rows)


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
    counts, examples = _by_class(labels.cpu()[rows], rows, len(class_names), per_class)
    examples = examples[:max_classes]
    parts = [("as stored", _stored(images, torch.cat(examples)))]
    if augment is not None and augment.steps:
        names = ", ".join(type(step).__name__ for step in augment.steps)
        parts.append((f"augmented: {names}", _augmented(images, labels, torch.cat(examples), augment, epoch)))
    tile = _tile_size(images.shape[1])
    part_width = per_class * (tile + GAP) - GAP
    sheet = Image.new("RGB", _sheet_size(len(parts), part_width, len(class_names), len(examples), tile), PAPER)
    _write_names(ImageDraw.Draw(sheet), class_names, counts, len(examples), tile)
    for number, (heading, pictures) in enumerate(parts):
        left = MARGIN + NAMES + number * (part_width + MARGIN)
        _write(ImageDraw.Draw(sheet), (left, MARGIN), heading, part_width)
        _paste(sheet, pictures, [len(example) for example in examples], left, tile)
    return sheet


def _by_class(labels: Tensor, rows: Tensor, classes: int, limit: int) -> tuple[list[int], list[Tensor]]:
    """Return how many images each class has, and the rows of its first ``limit``."""
    counts = torch.bincount(labels, minlength=classes).tolist()
    by_class = torch.split(rows[labels.argsort(stable=True)], counts)
    return counts, [group[:limit] for group in by_class]


def _stored(images: Tensor, rows: Tensor) -> list[Image.Image]:
    return [_picture(image) for image in images[rows.to(images.device)].cpu()]


def _augmented(images: Tensor, labels: Tensor, rows: Tensor, augment: Pipeline, epoch: int) -> list[Image.Image]:
    rows = rows.to(images.device)
    batch, _ = augment(images[rows].permute(0, 3, 1, 2), labels.to(images.device)[rows], rows, epoch)
    return [_picture(image) for image in batch.permute(0, 2, 3, 1).round().clamp(0, 255).to(torch.uint8).cpu()]


def _picture(image: Tensor) -> Image.Image:
    pixels = image.numpy()  # (H, W, C)
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("RGB")


def _tile_size(image_size: int) -> int:
    """Return the side of an image on the sheet: a whole multiple of small ones, at most 128 pixels for large ones."""
    return image_size * max(1, 64 // image_size) if image_size <= 128 else 128


def _sheet_size(parts: int, part_width: int, classes: int, lines: int, tile: int) -> tuple[int, int]:
    width = MARGIN + NAMES + parts * (part_width + MARGIN)
    return width, MARGIN + HEAD + lines * (tile + GAP) + (HEAD if classes > lines else 0) + MARGIN


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


def _paste(sheet: Image.Image, pictures: list[Image.Image], line_lengths: list[int], left: int, tile: int) -> None:
    places = [(line, column) for line, length in enumerate(line_lengths) for column in range(length)]
    for picture, (line, column) in zip(pictures, places, strict=True):
        kind = Image.Resampling.NEAREST if picture.width <= tile else Image.Resampling.LANCZOS
        at = (left + column * (tile + GAP), MARGIN + HEAD + line * (tile + GAP))
        sheet.paste(picture.resize((tile, tile), kind), at)
