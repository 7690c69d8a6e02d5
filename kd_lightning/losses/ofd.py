"""Overhaul of feature distillation: maps before their ReLU, with a margin where the teacher is negative."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kd_lightning.data.loader import Batch
from kd_lightning.losses.base import Targets, to_float32
from kd_lightning.losses.layers import LayerLoss, Shape, same_shape
from kd_lightning.losses.projectors import Norm
from kd_lightning.networks.layers import Outputs


def partial_loss(student_map: Tensor, teacher_map: Tensor, margins: Tensor) -> Tensor:
    """Return the sum of ``(s - max(t, m))^2`` where ``s > max(t, m)`` or ``t > 0``, averaged over the batch.

    Heo et al., "A Comprehensive Overhaul of Feature Distillation" (ICCV 2019, https://arxiv.org/abs/1904.01866).

    Args:
        student_map: After the projector, (B, C, H, W).
        teacher_map: Before its ReLU, (B, C, H, W).
        margins: m of each channel, 0 or less, (C,).

    Returns:
        A scalar, 0 or more.

    Raises:
        ValueError: The shapes differ.
    """
    same_shape(student_map, teacher_map)
    own, other = to_float32(student_map), to_float32(teacher_map)
    wanted = torch.maximum(other, margins.view(-1, 1, 1))
    counted = (own > wanted) | (wanted > 0)
    return ((own - wanted).square() * counted).flatten(1).sum(1).mean()


class OFD(LayerLoss):
    """The squared difference between maps before their ReLU, where it changes what comes after the ReLU.

    Heo et al., ICCV 2019, https://arxiv.org/abs/1904.01866: ``sum (r(f_s) - max(f_t, m_c))^2``, averaged over the
    batch, where r is a trained 1x1 convolution with BatchNorm and m_c the mean of the teacher's negative values in
    channel c. Where the teacher is negative, the student has to be below m_c, but not to match it. Of n pairs of
    layers, from the shallowest to the deepest, the last counts in full and each earlier one half as much as the next.

    A weight of 0.001 beside labels at 1 with a pair for each stage is the authors' setting for 100 classes. The layers
    have to give maps before their ReLU: ``layer1.4.preact`` of a resnet32x4, ``block0.1`` of a VGG-8, ``bn1`` of a
    WideResNet, ``features.7`` of DeepNN. The authors' code estimates m_c by the BatchNorm before the ReLU, as of a
    normal distribution. Here it is the mean itself, over the training batches so far: it exists without a BatchNorm,
    too, and it is right for sums with a shortcut.

    Between C and C' channels it trains ``C C' + 2 C'`` parameters, which are dropped after training. The teacher cache
    holds the maps. The larger map is averaged down to the smaller one, and a vector is a 1x1 map. It is defined for a
    batch of one. Before the first training batch, and for a channel that is never negative, m_c is 0.

    Args:
        student: The student's layers before a ReLU, from the shallowest to the deepest.

    Raises:
        UserError: The numbers of layers differ, or a layer gives neither maps nor vectors.
    """

    short = "ofd"
    want = "pooled"

    def __init__(
        self,
        student: str | list[str],
        teacher: str | list[str] | None = None,
        weight: float = 0.001,
        warm_up: int = 0,
    ) -> None:
        super().__init__(student, teacher, weight, warm_up)

    def connect(self, pairs: Sequence[tuple[Shape, Shape]]) -> None:
        """Create the projectors, and what the margins are computed from."""
        self.projectors = nn.ModuleList()
        for place, ((channels, *_), (target, *_)) in enumerate(pairs):
            convolution = nn.Conv2d(channels, target, kernel_size=1, bias=False)
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out")
            self.projectors.append(nn.Sequential(convolution, Norm(target)))
            self.register_buffer(f"margins{place}", torch.zeros(target))
            self.register_buffer(f"counts{place}", torch.zeros(target))

    def forward(self, student: Outputs, target: Targets, batch: Batch) -> Tensor:
        """Return the weighted sum over the pairs, a scalar; update the margins in training."""
        total, last = student.logits.new_zeros(()), len(self.projectors) - 1
        for place, (own, other) in enumerate(self.pairs(student, target)):
            margins, counts = self.get_buffer(f"margins{place}"), self.get_buffer(f"counts{place}")
            if self.training:
                _update_means(margins, counts, other)
            total = total + partial_loss(self.projectors[place](own), other, margins.clone()) / 2 ** (last - place)
        return total

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of a projected map with margins of 0, a scalar."""
        return partial_loss(student, teacher, teacher.new_zeros(teacher.shape[1]))


@torch.no_grad()
def _update_means(means: Tensor, counts: Tensor, values: Tensor) -> None:
    """Update each channel's mean of its negative values, (C,), and their number, by those of a batch (B, C, H, W)."""
    negative = to_float32(values).clamp_max(0)
    found = (negative < 0).sum((0, 2, 3))
    counts.add_(found)
    means.add_((negative.sum((0, 2, 3)) - found * means) / counts.clamp_min(1))
