"""Knowledge review: the student's stages, fused from the deepest to the shallowest, are compared with the teacher's."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from kd_lightning.data.loader import Batch
from kd_lightning.errors import UserError
from kd_lightning.losses.base import Targets, to_float32
from kd_lightning.losses.layers import LayerLoss, Shape, Size, as_map, same_shape
from kd_lightning.losses.projectors import Norm
from kd_lightning.networks.layers import Outputs

SIZES = (4, 2, 1)
"""Heights and widths that maps are averaged down to."""

MAX_CHANNELS = 512
"""Largest number of channels that one fusion passes to the next."""


def pyramid_loss(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Return the hierarchical context loss: mean squared errors of two maps as they are and averaged to 4x4, 2x2, 1x1.

    Only sizes smaller than the map are used; each has half the weight of the one before, and the weights sum to one.

    Args:
        student_map: (B, C, H, W).
        teacher_map: (B, C, H, W).

    Returns:
        A scalar, 0 or more.

    Raises:
        ValueError: The shapes differ.
    """
    same_shape(student_map, teacher_map)
    own, other = to_float32(student_map), to_float32(teacher_map)
    total, weight, weights = functional.mse_loss(own, other), 1.0, 1.0
    for size in (size for size in SIZES if size < min(own.shape[-2:])):
        weight /= 2
        weights += weight
        pooled, target = (functional.adaptive_avg_pool2d(values, size) for values in (own, other))
        total = total + weight * functional.mse_loss(pooled, target)
    return total / weights


class Fusion(nn.Module):
    """Attention-based fusion of a stage of the student with the output of the deeper stages.

    Args:
        channels: Of the stage.
        between: Channels of what is passed on.
        target: Channels of the teacher's map.
        deepest: Whether this is the deepest stage.
    """

    def __init__(self, channels: int, between: int, target: int, deepest: bool) -> None:
        super().__init__()
        enter = nn.Conv2d(channels, between, kernel_size=1, bias=False)
        leave = nn.Conv2d(between, target, kernel_size=3, padding=1, bias=False)
        for convolution in (enter, leave):
            nn.init.kaiming_uniform_(convolution.weight, a=1)
        self.enter = nn.Sequential(enter, Norm(between))
        self.leave = nn.Sequential(leave, Norm(target))
        self.attention = None if deepest else nn.Conv2d(2 * between, 2, kernel_size=1)

    def forward(self, own: Tensor, deeper: Tensor | None, size: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the fused map to compare, (B, target, *size), and the one to pass on, (B, between, *size).

        Args:
            own: The stage's map, (B, channels, H, W).
            deeper: What the deeper stage passed on, (B, between, H', W'); ``None`` for the deepest.
            size: Height and width of the teacher's map.
        """
        fused = self.enter(own)
        if self.attention is not None and deeper is not None:
            above = _resized(deeper, fused.shape[-2:])
            one, other = self.attention(torch.cat([fused, above], 1)).sigmoid().split(1, 1)  # (B, 1, H, W) each
            fused = fused * one + above * other
        fused = _resized(fused, size)
        return self.leave(fused), fused


def _resized(values: Tensor, size: Sequence[int]) -> Tensor:
    """Return maps resized to a height and width by nearest-neighbour interpolation."""
    return values if values.shape[-2:] == tuple(size) else functional.interpolate(values, size=list(size))


class ReviewKD(LayerLoss):
    """The squared difference between each stage of the teacher and the fusion of the student's stages from there on.

    Chen et al., CVPR 2021, https://arxiv.org/abs/2104.09044. From the deepest stage to the shallowest, a fusion weighs
    the student's map and the output of the deeper stages at each position (1x1 convolution, attention;
    nearest-neighbour resizing where heights differ, finally to the teacher's height), and a 3x3 convolution maps the
    result to the teacher's channels. A vector, such as what ``pool`` gives, is a 1x1 map. Each result adds its mean
    squared error at full size and averaged to 4x4, 2x2 and 1x1 (only sizes smaller than the map), weighted 1, 1/2, 1/4,
    1/8 over their sum; the stages are summed.

    The reference setting for 100 classes compares each stage and, as the deepest, the pooled vector: the student's maps
    after a stage's ReLU with the teacher's before it. For resnet8x4 and resnet32x4 that is ``student: [layer1, layer2,
    layer3, pool]`` and ``teacher: [layer1.4.preact, layer2.4.preact, layer3.4.preact, pool]``; of a WideResNet as the
    teacher ``[block2.layer.0.bn1, block3.layer.0.bn1, bn1, pool]``. Its weight is 5 for that pair (8 for ShuffleNetV2,
    0.6 and 1 for resnet20 and resnet32), beside labels at 1, over a warm-up of 20 epochs.

    Of each stage it trains ``C M + 9 M C'`` weights and a few more, M = min(512, C of the deepest), often more than the
    student has; they are dropped after training. In training a stage takes the time of a 3x3 convolution at the
    teacher's size. The teacher cache holds whole maps.

    Args:
        student: The student's layers, two stages or more, from the shallowest to the deepest; each gives a map, or a
            vector.

    Raises:
        UserError: The numbers of layers differ, or are below two.
    """

    short = "reviewkd"
    want = "pooled"  # a vector is a 1x1 map

    def __init__(
        self, student: list[str], teacher: list[str] | None = None, weight: float = 5.0, warm_up: int = 20
    ) -> None:
        super().__init__(student, teacher, weight, warm_up)
        if len(self.student_layers) < 2:
            raise UserError(
                f"ReviewKD fuses stages, but student names only '{self.student_layers[0]}'; name two layers or more, "
                "from the shallowest to the deepest, or take FeatureRegression."
            )

    def size(self, student: Shape, teacher: Shape) -> Size:
        """Return ``None``: the fusions resize maps."""
        return None

    def connect(self, pairs: Sequence[tuple[Shape, Shape]]) -> None:
        """Create a fusion for each stage."""
        between = min(MAX_CHANNELS, pairs[-1][0][0])
        self.fusions = nn.ModuleList(
            Fusion(own[0], between, other[0], deepest=stage == len(pairs) - 1)
            for stage, (own, other) in enumerate(pairs)
        )

    def forward(self, student: Outputs, target: Targets, batch: Batch) -> Tensor:
        """Return the sum over the stages, a scalar."""
        total, deeper = student.logits.new_zeros(()), None
        for fusion, pair in reversed(list(zip(self.fusions, self.pairs(student, target), strict=True))):
            own, other = map(as_map, pair)
            fused, deeper = fusion(own, deeper, other.shape[-2:])
            total = total + self.compare(fused, other)
        return total

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of a fused map and a stage of the teacher, a scalar."""
        return pyramid_loss(student, teacher)
