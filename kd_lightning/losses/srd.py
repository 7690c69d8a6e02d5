"""A simple recipe for distillation: normalized features after a linear projector."""

from collections.abc import Sequence

from torch import Tensor, nn

from kd_lightning.errors import UserError
from kd_lightning.losses.across_images import AcrossImages
from kd_lightning.losses.base import to_float32
from kd_lightning.losses.layers import LayerLoss, Shape, same_shape

EPSILON = 1e-4
"""Added to a channel's variance."""

MIN_SUM = 1e-8
"""Sum of powers below which two maps count as equal: it bounds the logarithm."""


def normalized_channels(feature_map: Tensor) -> Tensor:
    """Return a map with each channel's mean over batch and positions at 0, and its variance at 1.

    It is batch normalization without affine parameters that uses the batch's statistics in evaluation mode too. A
    channel of one value, on which ``BatchNorm2d`` cannot train, becomes 0.

    Args:
        feature_map: (B, C, H, W).

    Returns:
        (B, C, H, W).
    """
    values = to_float32(feature_map)
    centred = values - values.mean((0, 2, 3), keepdim=True)
    return centred * (centred.square().mean((0, 2, 3), keepdim=True) + EPSILON).rsqrt()


def log_power_loss(projected_map: Tensor, teacher_map: Tensor, exponent: float) -> Tensor:
    """Return the logarithm of the sum of powers of the differences between normalized maps.

    Miles and Mikolajczyk, "Understanding the Role of the Projector in Knowledge Distillation" (AAAI 2024,
    https://arxiv.org/abs/2303.11098).

    Args:
        projected_map: The student's map after the projector, (B, C, H, W).
        teacher_map: (B, C, H, W).
        exponent: 1 or more.

    Returns:
        A scalar of any sign; without gradient where the maps are equal.

    Raises:
        ValueError: The shapes differ.
    """
    same_shape(projected_map, teacher_map)
    differences = normalized_channels(projected_map) - normalized_channels(teacher_map)
    return differences.abs().pow(exponent).sum().clamp_min(MIN_SUM).log()


class SRD(AcrossImages, LayerLoss):
    """The logarithm of the summed fourth powers between the normalized maps of teacher and projected student.

    Miles and Mikolajczyk, AAAI 2024, https://arxiv.org/abs/2303.11098: ``log sum |BN(W f_s) - BN(f_t)|^4``, where BN
    normalizes each channel over the batch, without affine parameters, and W is a linear projector without bias (which
    the BN would cancel). The projector can whiten the student's features, the power emphasizes the largest errors, and
    with the logarithm the gradient does not vanish as they shrink. The paper compares the features before the
    classifier. Try it first in a short run: after 10 epochs on CIFAR-10 it led on the validation images (no verdict).

    A weight of 2, beside labels at 1 and ``SoftTargets`` at T = 1 with weight 1, is the authors' setting for ImageNet.
    Between C and C' channels it trains ``C C'`` parameters, which are dropped after training. The teacher cache holds
    the map. The larger map is averaged down to the smaller one, and a vector is a 1x1 map. The sum grows with the
    batch, its gradient does not. Validation uses its batches' statistics too. A channel of one value or of equal ones
    is 0; where all are (a batch of one vector), the loss is log 1e-8, without gradient.

    Args:
        exponent: The exponent, 1 or more.

    Raises:
        UserError: A layer gives neither maps nor vectors, or ``exponent`` is below 1.
    """

    short = "srd"
    want = "pooled"

    def __init__(
        self,
        student: str,
        teacher: str | None = None,
        exponent: float = 4.0,
        weight: float = 2.0,
        warm_up: int = 0,
        gather: bool = False,
    ) -> None:
        super().__init__(student, teacher, weight, warm_up)
        self.gather = gather
        if not exponent >= 1:
            raise UserError(f"exponent of SRD is {exponent}, but it must be 1 or more.")
        self.exponent = exponent

    def connect(self, pairs: Sequence[tuple[Shape, Shape]]) -> None:
        """Create the projector."""
        [(own, other)] = pairs
        self.projector = nn.Conv2d(own[0], other[0], kernel_size=1, bias=False)

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the logarithm of the sum, a scalar."""
        return log_power_loss(self.whole(self.projector(student)), self.whole(teacher), self.exponent)
