"""Augmentations that mix each image with another one of its batch: Mixup and CutMix.

An image's partner is the next one of the batch in a random order that depends on the seed, the epoch and the rows. So
the same rows form the same pairs in any order, and in a batch of two or more no image is its own partner.
"""

from dataclasses import dataclass
from functools import cache
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from scipy.special import betaincinv
from torch import Tensor

from kd_lightning.data import counter_rng
from kd_lightning.data.augment.base import Augmentation
from kd_lightning.data.augment.erasing import Boxes


class Mix(NamedTuple):
    """The draws for a batch."""

    weights: Tensor  # (B,) float32 in [0, 1]: each image's own share
    partners: Tensor  # (B,) int64: positions in the batch


@dataclass(frozen=True)
class Mixup(Augmentation):
    """Interpolate each image and its label with another's, by a weight from Beta(alpha, alpha).

    Zhang et al., 2018: https://arxiv.org/abs/1710.09412. Every image has its own weight.

    Args:
        alpha: Both parameters of the beta distribution, in (0, 100]; near 0 images stay nearly pure.
        seed: Any integer.
    """

    mixes_labels: ClassVar[bool] = True
    alpha: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        self.require(0 < self.alpha <= 100, "alpha", "a number in (0, 100]")

    def draw(self, rows: Tensor, epoch: int | Tensor) -> Mix:
        """Return each image's weight and partner."""
        weights = symmetric_beta(self.uniform(rows, epoch, 1)[0], self.alpha)
        return Mix(weights, _partners(self, rows, epoch))

    def apply(self, images: Tensor, labels: Tensor, rows: Tensor, epoch: int | Tensor) -> tuple[Tensor, Tensor]:
        """Return mixed images, float32, and mixed labels, ``(B, K)`` float32."""
        mix = self.draw(rows, epoch)
        own, other = images.to(torch.float32), _of_partners(images, mix).to(torch.float32)
        return _interpolate(own, other, mix), _interpolate(labels, labels[mix.partners], mix)


@dataclass(frozen=True)
class CutMix(Augmentation):
    """Paste a rectangle of another image into each image, and mix the labels by the areas.

    Yun et al., 2019: https://arxiv.org/abs/1905.04899. Every image has its own rectangle around a random pixel, of
    area 1 - w of the image for w from Beta(alpha, alpha); what lies outside of the image is cut off.

    Args:
        alpha: Both parameters of the beta distribution, in (0, 100]; 1 makes all shares equally likely.
        seed: Any integer.
    """

    mixes_labels: ClassVar[bool] = True
    alpha: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        self.require(0 < self.alpha <= 100, "alpha", "a number in (0, 100]")

    def draw(self, rows: Tensor, epoch: int | Tensor, size: tuple[int, int]) -> tuple[Mix, Boxes]:
        """Return each image's rectangle, partner and the share of its own pixels that it keeps."""
        share, y, x = self.uniform(rows, epoch, 3)
        half = 0.5 * (1 - symmetric_beta(share, self.alpha)).sqrt()
        top, bottom = _span(y, half, size[0])
        left, right = _span(x, half, size[1])
        weights = 1 - ((bottom - top) * (right - left)).to(torch.float32) / (size[0] * size[1])
        return Mix(weights, _partners(self, rows, epoch)), Boxes(top, bottom, left, right)

    def apply(self, images: Tensor, labels: Tensor, rows: Tensor, epoch: int | Tensor) -> tuple[Tensor, Tensor]:
        """Return images with pasted rectangles and mixed labels, ``(B, K)`` float32."""
        size = (images.shape[2], images.shape[3])
        mix, boxes = self.draw(rows, epoch, size)
        inside = boxes.mask(size)
        return images * ~inside + _of_partners(images, mix) * inside, _interpolate(labels, labels[mix.partners], mix)


def symmetric_beta(uniform: Tensor, alpha: float) -> Tensor:
    """Turn uniform draws into draws from Beta(alpha, alpha), float32, by its inverse distribution function.

    A table of the function with linear interpolation: unlike rejection it needs one draw each, and unlike powers and
    cosines it gives the same bits on every device.
    """
    table = _quantiles(alpha, uniform.device)
    places = uniform * (len(table) - 1)
    below = places.to(torch.int64)
    return table[below] + (places - below) * (table[below + 1] - table[below])  # lerp rounds differently on CPU and GPU


@cache
def _quantiles(alpha: float, device: torch.device, half: int = 2048) -> Tensor:
    """Return ``2 * half + 1`` quantiles of Beta(alpha, alpha) at equal steps of probability from 0 to 1, float32."""
    steps = np.linspace(0, 0.5, half + 1)
    steps[0] = 0.075 / half  # so that lines between the quantiles keep the variance: the outermost one would be 0 and 1
    lower = betaincinv(alpha, alpha, steps)
    table = np.concatenate([lower, 1 - lower[-2::-1]])  # symmetric to the last bit
    with torch.inference_mode(False):
        return torch.from_numpy(table).to(torch.float32).to(device)


def _partners(mixer: Augmentation, rows: Tensor, epoch: int | Tensor) -> Tensor:
    """Return the position in the batch of each image's partner: the batch in random order is one cycle."""
    numbers = counter_rng.bits(rows, epoch, mixer.seed, 1, f"{type(mixer).__name__} partners").squeeze(1)
    order = numbers.argsort(stable=True)
    return torch.empty_like(order).scatter_(0, order, order.roll(1))


def _of_partners(images: Tensor, mix: Mix) -> Tensor:
    """Return each image's partner, gathered in memory order, where an image is one contiguous copy."""
    return images.permute(0, 2, 3, 1).index_select(0, mix.partners).permute(0, 3, 1, 2)


def _interpolate(own: Tensor, other: Tensor, mix: Mix) -> Tensor:
    weights = mix.weights.view(-1, *[1] * (own.ndim - 1))
    return own * weights + other * (1 - weights)


def _span(centre: Tensor, half: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Return start and end of ``2 * half * length`` pixels around a random one, cut off at the borders."""
    middle, reach = counter_rng.integers(centre, length), (half * length).to(torch.int64)
    return (middle - reach).clamp(min=0), (middle + reach).clamp(max=length)
