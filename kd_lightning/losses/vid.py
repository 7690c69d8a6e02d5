"""Variational information distillation: how well the student's map predicts the teacher's."""

from collections.abc import Sequence
from math import expm1, log

import torch
from torch import Tensor, nn
from torch.nn import functional

from kd_lightning.losses.base import to_float32
from kd_lightning.losses.layers import LayerLoss, Shape, same_shape

FIRST_VARIANCE = 5.0
MIN_VARIANCE = 1e-5


def negative_log_likelihood(mean: Tensor, teacher_map: Tensor, variances: Tensor) -> Tensor:
    """Return ``((m - f_t)^2 / v + log v) / 2``, averaged over batch and map.

    Ahn, Hu, Damianou, Lawrence and Dai, "Variational Information Distillation for Knowledge Transfer" (CVPR 2019,
    https://arxiv.org/abs/1904.05835): up to a constant, the negative log-likelihood of a normal distribution.

    Args:
        mean: (B, C, H, W).
        teacher_map: (B, C, H, W).
        variances: Above 0, (C,).

    Returns:
        A scalar; it is below 0 where the variances are small and the predictions close.

    Raises:
        ValueError: The shapes of the maps differ.
    """
    same_shape(mean, teacher_map)
    errors = (to_float32(mean) - to_float32(teacher_map)).square().mean((0, 2, 3))  # (B, C, H, W) -> (C,)
    return (errors / variances + variances.log()).mean() / 2


class VID(LayerLoss):
    """The negative log-likelihood of the teacher's map under a normal distribution that the student's map predicts.

    Ahn et al., CVPR 2019, https://arxiv.org/abs/1904.05835: ``mean ((m(f_s) - f_t)^2 / v_c + log v_c) / 2``, where m is
    three 1x1 convolutions with ReLU between them and v a variance per channel, ``softplus(a) + 1e-5``, all trained with
    the student. It raises a lower bound of the mutual information of the layers: a regression that learns to weigh
    channels less which the student cannot predict.

    A weight of 1 is RepDistiller's setting for 100 classes, with one loss for each of three stages; the variances start
    at 5. It may fall below 0. Between C and C' channels it trains ``C C' + 2 C'^2 + C'`` parameters, which are dropped
    after training. The teacher cache holds the map. The larger map is averaged down to the smaller one, and a vector is
    a 1x1 map. It is defined for a batch of one and for constant maps.

    Raises:
        UserError: A layer gives neither maps nor vectors.
    """

    short = "vid"
    want = "pooled"

    def __init__(self, student: str, teacher: str | None = None, weight: float = 1.0, warm_up: int = 0) -> None:
        super().__init__(student, teacher, weight, warm_up)

    def connect(self, pairs: Sequence[tuple[Shape, Shape]]) -> None:
        """Create the convolutions and the variances."""
        [((channels, *_), (target, *_))] = pairs
        self.mean = nn.Sequential(
            nn.Conv2d(channels, target, kernel_size=1, bias=False),
            nn.ReLU(),
            nn.Conv2d(target, target, kernel_size=1, bias=False),
            nn.ReLU(),
            nn.Conv2d(target, target, kernel_size=1, bias=False),
        )
        self.raw_variances = nn.Parameter(torch.full((target,), log(expm1(FIRST_VARIANCE - MIN_VARIANCE))))

    def variances(self) -> Tensor:
        """Return the variance of each channel, (C',)."""
        return functional.softplus(to_float32(self.raw_variances)) + MIN_VARIANCE

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the mean over batch and map, a scalar."""
        return negative_log_likelihood(self.mean(student), teacher, self.variances())
