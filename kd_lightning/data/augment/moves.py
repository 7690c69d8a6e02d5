"""Augmentations that move pixels: crop, flip and translation.

Each gives the source of its result's pixels, as one list of rows and one of columns for every image. These lists
compose, so any number of consecutive moves costs one gather, the only step that touches pixels.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from kd_lightning.data.augment.base import Augmentation
from kd_lightning.data.counter_rng import EPOCHS, integers


class Sources(NamedTuple):
    """Source positions of a result's pixels; positions outside of the image are black."""

    ys: Tensor  # (B, H) int64
    xs: Tensor  # (B, W) int64


class PixelMove(Augmentation):
    """An augmentation that fills each row of its result from one row of the image, and each column from one column."""

    @abstractmethod
    def sources(self, at: Sources, size: tuple[int, int], rows: Tensor, epoch: int | Tensor) -> Sources:
        """Return the image positions that this move shows at the positions ``at`` of its result.

        Args:
            at: Positions in the result.
            size: Height and width of the image and of the result, in pixels.
            rows: ``(B,)`` int64: the images' row numbers in the data set.
            epoch: The epoch, 0 or more, or a 0-d int64 tensor of it.
        """

    def apply(self, images: Tensor, labels: Tensor, rows: Tensor, epoch: int | Tensor) -> tuple[Tensor, Tensor]:
        """Return the moved images and the labels unchanged."""
        return move_pixels(images, [self], rows, epoch), labels


@dataclass(frozen=True)
class RandomCrop(PixelMove):
    """Pad the image on all sides and cut a window of its own size out of it.

    Args:
        padding: Pixels added on each side, 1 or more; with ``reflect`` less than the image's height and width.
        mode: ``reflect`` mirrors the image at its borders, ``zeros`` pads with black.
        seed: Any integer.
    """

    padding: int = 4
    mode: Literal["reflect", "zeros"] = "reflect"
    seed: int = 0

    def __post_init__(self) -> None:
        self.require(self.padding >= 1, "padding", "1 pixel or more")

    def draw(self, rows: Tensor, epoch: int | Tensor) -> Tensor:
        """Return each window's top and left in the padded image, ``(2, B)`` int64 in 0 .. 2 * padding."""
        return integers(self.uniform(rows, epoch, 2), 2 * self.padding + 1)

    def sources(self, at: Sources, size: tuple[int, int], rows: Tensor, epoch: int | Tensor) -> Sources:
        """Shift by the window's offset, and reflect positions outside of the image in the mode ``reflect``."""
        top, left = self.draw(rows, epoch).unsqueeze(2) - self.padding
        places = Sources(at.ys + top, at.xs + left)
        if self.mode == "zeros":
            return places
        self.require(self.padding < min(size), "padding", f"less than the images' {min(size)} pixels, or mode zeros,")
        return Sources(*(_reflected(place, length) for place, length in zip(places, size, strict=True)))


@dataclass(frozen=True)
class RandomTranslate(PixelMove):
    """Shift the image by whole pixels; what comes in from outside is black.

    Args:
        fraction: Largest shift as a fraction of the image's height and width, in (0, 1].
        seed: Any integer.
    """

    fraction: float = 0.125
    seed: int = 0

    def __post_init__(self) -> None:
        self.require(0 < self.fraction <= 1, "fraction", "a number in (0, 1]")

    def draw(self, rows: Tensor, epoch: int | Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return each image's shift down and to the right, two of ``(B,)`` int64, positive or negative."""
        down, right = self.uniform(rows, epoch, 2)
        limits = [int(self.fraction * length) for length in size]
        return integers(down, 2 * limits[0] + 1) - limits[0], integers(right, 2 * limits[1] + 1) - limits[1]

    def sources(self, at: Sources, size: tuple[int, int], rows: Tensor, epoch: int | Tensor) -> Sources:
        """Shift back by the drawn offset."""
        down, right = self.draw(rows, epoch, size)
        return Sources(at.ys - down.unsqueeze(1), at.xs - right.unsqueeze(1))


@dataclass(frozen=True)
class HorizontalFlip(PixelMove):
    """Mirror the image left to right.

    Args:
        probability: Probability of a flip, in [0, 1].
        seed: Any integer.
    """

    flips_only: ClassVar[bool] = True
    probability: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        self.require(0 <= self.probability <= 1, "probability", "a number in [0, 1]")

    def draw(self, rows: Tensor, epoch: int | Tensor) -> Tensor:
        """Return which images are mirrored, ``(B,)`` bool."""
        return self.uniform(rows, epoch, 1)[0] < self.probability

    def sources(self, at: Sources, size: tuple[int, int], rows: Tensor, epoch: int | Tensor) -> Sources:
        """Count the columns from the right where the image is mirrored."""
        mirrored = self.draw(rows, epoch).unsqueeze(1)
        return Sources(at.ys, torch.where(mirrored, size[1] - 1 - at.xs, at.xs))


@dataclass(frozen=True)
class AlternatingFlip(HorizontalFlip):
    """Mirror the image left to right in every second epoch; at random in the first one.

    Jordan, 2024, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU": https://arxiv.org/abs/2404.00498. Two epochs in a
    row show both sides of every image. With ``--data.views`` the views of an image alternate, an even number of them
    in equal shares.

    Args:
        probability: Probability that an image is mirrored in the first epoch, in [0, 1].
        seed: Any integer.
    """

    def draw(self, rows: Tensor, epoch: int | Tensor) -> Tensor:
        """Return which images are mirrored, ``(B,)`` bool."""
        number = epoch % EPOCHS
        return super().draw(rows, epoch - number) ^ (number % 2 == 1)


def move_pixels(images: Tensor, moves: Sequence[PixelMove], rows: Tensor, epoch: int | Tensor) -> Tensor:
    """Apply moves in their order, in one gather.

    Args:
        images: ``(B, C, H, W)``, any dtype.
        moves: What to apply.
        rows: ``(B,)`` int64: the images' row numbers in the data set.
        epoch: The epoch, 0 or more, or a 0-d int64 tensor of it.

    Returns:
        The moved images, ``(B, C, H, W)`` in channels_last memory.
    """
    batch, channels, height, width = images.shape
    count = batch * height * width
    pixels = torch.cat(
        [images.permute(0, 2, 3, 1).reshape(count, channels), images.new_zeros(1, channels)]
    )  # one black
    (ys, xs), (no_row, no_column) = _composed(moves, batch, (height, width), rows, epoch)
    firsts = torch.arange(0, count, height * width, device=images.device).unsqueeze(1)
    kind = torch.int32 if 2 * count < 2**31 else torch.int64  # half the memory where it is enough
    lines = (firsts + ys * width).masked_fill(no_row, count).to(kind)  # (B, H): where rows of the result start
    columns = xs.masked_fill(no_column, count).to(kind)
    index = (lines.unsqueeze(2) + columns.unsqueeze(1)).clamp_(max=count)  # (B, H, W)
    return pixels.index_select(0, index.view(-1)).view(batch, height, width, channels).permute(0, 3, 1, 2)


def _composed(
    moves: Sequence[PixelMove], batch: int, size: tuple[int, int], rows: Tensor, epoch: int | Tensor
) -> tuple[Sources, list[Tensor]]:
    """Trace the last result's rows and columns back to the image; mark those that a move took from outside."""
    places = Sources(*(torch.arange(length, device=rows.device).expand(batch, -1) for length in size))
    outside = [torch.zeros_like(place, dtype=torch.bool) for place in places]
    for move in reversed(moves):
        places = move.sources(places, size, rows, epoch)
        for axis, (place, length) in enumerate(zip(places, size, strict=True)):
            outside[axis] = outside[axis] | (place < 0) | (place >= length)
    return places, outside


def _reflected(places: Tensor, length: int) -> Tensor:
    """Mirror positions in -length + 1 .. 2 * length - 2 at the first and the last pixel."""
    return length - 1 - (length - 1 - places.abs()).abs()
