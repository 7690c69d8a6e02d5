"""RandAugment and TrivialAugment: random ones of fourteen operations."""

from dataclasses import dataclass

import torch
from torch import Tensor

from kd_lightning.data.augment.base import Augmentation
from kd_lightning.data.augment.operations import BINS, Operations, Strengths, operate


@dataclass(frozen=True)
class TrivialAugment(Augmentation):
    """Change each image by one random operation of random strength; there is nothing to tune.

    Müller and Hutter, ICCV 2021: https://arxiv.org/abs/2103.10158. The operations and strengths are torchvision's
    ``TrivialAugmentWide``: shears, translations by up to 32 pixels, rotation, brightness, colour, contrast,
    sharpness, posterize, solarize, autocontrast, equalize, or none. What comes in from outside is black. Values are
    rounded to whole numbers.

    Args:
        seed: Any integer.
    """

    seed: int = 0

    def draw(self, rows: Tensor, epoch: int | Tensor) -> Operations:
        """Return each image's operation."""
        return Operations.of(*self.uniform(rows, epoch, 3))

    def apply(self, images: Tensor, labels: Tensor, rows: Tensor, epoch: int | Tensor) -> tuple[Tensor, Tensor]:
        """Return the changed images, uint8, and the labels unchanged."""
        strengths = Strengths(shear=0.99, translate=(32, 32), rotate=135, change=0.99, bits=6)
        return operate(_whole(images), self.draw(rows, epoch), strengths), labels


@dataclass(frozen=True)
class RandAugment(Augmentation):
    """Change each image by random operations of one strength, one after the other.

    Cubuk et al., 2019: https://arxiv.org/abs/1909.13719. The operations and strengths are torchvision's
    ``RandAugment``; they are those of ``TrivialAugment``, weaker. What comes in from outside is black. Values are
    rounded to whole numbers.

    Args:
        num_ops: Operations of an image, 1 or more; an operation may come twice.
        magnitude: Their strength, in 0 .. 30.
        seed: Any integer.
    """

    num_ops: int = 2
    magnitude: int = 9
    seed: int = 0

    def __post_init__(self) -> None:
        self.require(self.num_ops >= 1, "num_ops", "1 or more")
        self.require(0 <= self.magnitude < BINS, "magnitude", "a whole number in 0 .. 30")

    def draw(self, rows: Tensor, epoch: int | Tensor) -> list[Operations]:
        """Return each image's operations in their order."""
        draws = self.uniform(rows, epoch, 2 * self.num_ops)
        strength = torch.full_like(draws[0], (self.magnitude + 0.5) / BINS)
        return [Operations.of(kind, strength, direction) for kind, direction in draws.view(self.num_ops, 2, -1)]

    def apply(self, images: Tensor, labels: Tensor, rows: Tensor, epoch: int | Tensor) -> tuple[Tensor, Tensor]:
        """Return the changed images, uint8, and the labels unchanged."""
        height, width = images.shape[2:]
        reach = 150 / 331  # of the image's sides, as in the paper on AutoAugment
        strengths = Strengths(shear=0.3, translate=(reach * width, reach * height), rotate=30, change=0.9, bits=4)
        images = _whole(images)
        for one in self.draw(rows, epoch):
            images = operate(images, one, strengths)
        return images, labels


def _whole(images: Tensor) -> Tensor:
    return images.round().to(torch.uint8) if images.is_floating_point() else images
