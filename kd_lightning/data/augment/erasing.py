"""Cutout, and the rectangles that it shares with CutMix."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from kd_lightning.data.augment.base import Augmentation
from kd_lightning.data.counter_rng import integers


class Boxes(NamedTuple):
    """One rectangle an image, in pixels, all ``(B,)`` int64: rows ``top`` to ``bottom - 1``, and columns alike."""

    top: Tensor
    bottom: Tensor
    left: Tensor
    right: Tensor

    def mask(self, size: tuple[int, int]) -> Tensor:
        """Return which pixels lie in the rectangle, ``(B, 1, H, W)`` bool."""
        ys, xs = (torch.arange(length, device=self.top.device) for length in size)
        in_rows = (ys >= self.top.unsqueeze(1)) & (ys < self.bottom.unsqueeze(1))
        in_columns = (xs >= self.left.unsqueeze(1)) & (xs < self.right.unsqueeze(1))
        return (in_rows.unsqueeze(2) & in_columns.unsqueeze(1)).unsqueeze(1)


@dataclass(frozen=True)
class Cutout(Augmentation):
    """Black out a square around a random pixel; a part of it may lie outside of the image.

    DeVries and Taylor, 2017: https://arxiv.org/abs/1708.04552.

    Args:
        size: Side of the square in pixels, 1 or more; the paper uses 16 for CIFAR-10 and 8 for CIFAR-100.
        seed: Any integer.
    """

    size: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        self.require(self.size >= 1, "size", "1 pixel or more")

    def draw(self, rows: Tensor, epoch: int | Tensor, size: tuple[int, int]) -> Boxes:
        """Return the part of each square that lies in an image of this height and width."""
        y, x = self.uniform(rows, epoch, 2)
        top, left = integers(y, size[0]) - self.size // 2, integers(x, size[1]) - self.size // 2
        return Boxes(
            top.clamp(min=0),
            (top + self.size).clamp(max=size[0]),
            left.clamp(min=0),
            (left + self.size).clamp(max=size[1]),
        )

    def apply(self, images: Tensor, labels: Tensor, rows: Tensor, epoch: int | Tensor) -> tuple[Tensor, Tensor]:
        """Return the images with their squares black, and the labels unchanged."""
        size = (images.shape[2], images.shape[3])
        return images * ~self.draw(rows, epoch, size).mask(size), labels
