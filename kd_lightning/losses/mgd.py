"""Masked generative distillation: the teacher's map from parts of the student's."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from kd_lightning.errors import UserError
from kd_lightning.losses.base import to_float32
from kd_lightning.losses.layers import LayerLoss, Shape, same_shape

Masked = Literal["channels", "positions"]


def summed_squares(made_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Return the sum of squared differences, averaged over the batch.

    Args:
        made_map: (B, C, H, W).
        teacher_map: (B, C, H, W).

    Returns:
        A scalar, 0 or more.

    Raises:
        ValueError: The shapes differ.
    """
    same_shape(made_map, teacher_map)
    return (to_float32(made_map) - to_float32(teacher_map)).square().flatten(1).sum(1).mean()


class MGD(LayerLoss):
    """The squared difference between the teacher's map and one that is generated from random parts of the student's.

    Yang et al., "Masked Generative Distillation" (ECCV 2022, https://arxiv.org/abs/2205.01529): ``sum (G(M a(f_s)) -
    f_t)^2``, averaged over the batch, where a is a trained 1x1 convolution to the teacher's channels, where they
    differ, M sets a random share of each image's channels to 0, and G are two 3x3 convolutions with ReLU between them.
    The student has to have features from which the teacher's can be told, also from few of them.

    A weight of 7e-5 and a share of 0.15 beside labels at 1, on the last map of 7x7 and 512 channels, is the authors'
    setting for ImageNet. The loss is a sum over the map, so a smaller map wants a larger weight. For object detection
    they mask positions in the place of channels, a share of 0.65.

    Between C and C' channels it trains ``C C' + 18 C'^2`` parameters and a few more, often more than the student has;
    they are dropped after training. The teacher cache holds the map. Maps of other heights and widths are averaged down
    to the smaller one. It is defined for a batch of one. In validation nothing is masked.

    Args:
        masked: Whether whole ``channels`` or whole ``positions`` are set to 0.
        share: The probability that one is, in [0, 1).

    Raises:
        UserError: A layer gives no map, or ``share`` is out of its range.
    """

    short = "mgd"
    want = "pooled"

    def __init__(
        self,
        student: str,
        teacher: str | None = None,
        masked: Masked = "channels",
        share: float = 0.15,
        weight: float = 7e-5,
        warm_up: int = 0,
    ) -> None:
        super().__init__(student, teacher, weight, warm_up)
        if not 0 <= share < 1:
            raise UserError(f"share of MGD is {share}, but it must be 0 or more and below 1.")
        self.masked, self.share = masked, share

    def connect(self, pairs: Sequence[tuple[Shape, Shape]]) -> None:
        """Create the projector and the generator."""
        [((channels, *_), (target, *_))] = pairs
        self.align = nn.Identity() if channels == target else nn.Conv2d(channels, target, kernel_size=1)
        self.generator = nn.Sequential(
            nn.Conv2d(target, target, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(target, target, kernel_size=3, padding=1),
        )

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the sum of squared differences, averaged over the batch, a scalar."""
        aligned = self.align(student)
        return summed_squares(self.generator(aligned * self._mask(aligned) if self.training else aligned), teacher)

    def _mask(self, values: Tensor) -> Tensor:
        """Return a mask of zeros and ones for maps (B, C, H, W), drawn for each image."""
        count, channels, height, width = values.shape
        shape = (count, channels, 1, 1) if self.masked == "channels" else (count, 1, height, width)
        return (torch.rand(shape, device=values.device, dtype=torch.float32) >= self.share).to(values)
