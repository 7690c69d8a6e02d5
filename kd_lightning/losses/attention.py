"""Attention transfer: where in the image the features are strong."""

from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import functional

from kd_lightning.errors import UserError
from kd_lightning.losses.base import Targets, to_float32
from kd_lightning.losses.features import shape_text, smaller_size
from kd_lightning.losses.multi_layer import MultiLayerLoss
from kd_lightning.losses.pooled import averaged
from kd_lightning.networks.layers import Outputs, Shapes

if TYPE_CHECKING:
    from kd_lightning.data.loader import Batch


def attention_map(feature_map: Tensor, power: float, size: tuple[int, int]) -> Tensor:
    """Return the attention map of features, averaged down first, as in the reference code.

    Args:
        feature_map: (B, C, H, W).
        power: Exponent of the absolute values, 1 or more.
        size: (H', W') to average the features down to.

    Returns:
        (B, H' * W'), unit vectors.
    """
    strength = averaged(to_float32(feature_map), size).abs().pow(power).mean(1)  # (B, C, H, W) -> (B, H', W')
    return functional.normalize(strength.flatten(1), dim=1)


class AttentionTransfer(MultiLayerLoss):
    """The mean squared difference between attention maps of student and teacher, summed over pairs of layers.

    Zagoruyko and Komodakis, ICLR 2017, https://arxiv.org/abs/1612.03928: ``sum over pairs of mean (Q_s - Q_t)^2``, Q
    the mean over channels of abs(f)^p, flattened, divided by its length. Where sizes differ, the larger features are
    averaged down to the smaller size first, as RepDistiller and mdistiller do. Channels may differ, so it needs no
    projector. It helps where student and teacher have similar stages.

    A weight of 1000 with p = 2, one pair per stage, is the authors' setting for 10 classes and RepDistiller's for 100:
    the maps are unit vectors, so their squared differences are small. It has no parameters. The teacher cache holds one
    number per position. It is defined for a batch of one; a map of zeros has zero attention.

    Args:
        student: The student's layers, one per stage.
        teacher: The teacher's layers, in the same order; by default the student's names.
        power: The exponent p, 1 or more: below, a feature of 0 has no gradient.
        weight: Factor of the term in the total loss.
        warm_up: Epochs over which the weight rises.

    Raises:
        UserError: The numbers of layers differ, a layer gives no map, or ``power`` is below 1.
    """

    short = "at"

    def __init__(
        self,
        student: list[str],
        teacher: list[str] | None = None,
        power: float = 2.0,
        weight: float = 1000.0,
        warm_up: int = 0,
    ) -> None:
        super().__init__(student, teacher, weight, warm_up)
        if not power >= 1:
            raise UserError(f"power of AttentionTransfer is {power}, but it must be 1 or more.")
        self.power = power
        self.sizes: list[tuple[int, int]] = []

    def build(self, student: Shapes, teacher: Shapes | None) -> None:
        """Find the size of each pair of attention maps."""
        self.sizes = [smaller_size(own, other) for own, other in self.maps(student, teacher)]

    def _keys(self) -> list[str]:
        pairs = zip(self.teacher, self.sizes, strict=True)
        return [f"attention {self.power:g} of {name} averaged to {shape_text(size)}" for name, size in pairs]

    def target(self, teacher: Outputs) -> Targets:
        """Return the teacher's attention maps, (B, H * W) each."""
        pairs = zip(self._keys(), self.teacher, self.sizes, strict=True)
        return {key: attention_map(teacher.maps[name], self.power, size) for key, name, size in pairs}

    def forward(self, student: Outputs, target: Targets, batch: "Batch") -> Tensor:
        """Return the sum over the pairs, a scalar."""
        total = student.logits.new_zeros(())
        for key, name, size in zip(self._keys(), self.student, self.sizes, strict=True):
            total = total + (attention_map(student.maps[name], self.power, size) - target[key]).pow(2).mean()
        return total
