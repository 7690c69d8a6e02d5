"""Attention transfer: where in the image the features are strong."""

from torch import Tensor
from torch.nn import functional

from kd_lightning.errors import UserError
from kd_lightning.losses.base import to_float32
from kd_lightning.losses.layers import LayerLoss, Shape, Size, averaged, smaller_size
from kd_lightning.losses.projectors import shape_text


def attention_map(feature_map: Tensor, power: float, size: Size) -> Tensor:
    """Return the attention map of features, averaged down first, as in the reference code.

    Args:
        feature_map: (B, C, H, W).
        power: Exponent of the absolute values, 1 or more.
        size: (H', W') to average the features down to; ``None`` for the map's own.

    Returns:
        (B, H' * W'), unit vectors.
    """
    strength = averaged(to_float32(feature_map), size).abs().pow(power).mean(1)  # (B, C, H, W) -> (B, H', W')
    return functional.normalize(strength.flatten(1), dim=1)


class AttentionTransfer(LayerLoss):
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
        power: The exponent p, 1 or more: below, a feature of 0 has no gradient.

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

    def size(self, student: Shape, teacher: Shape) -> Size:
        """Return the height and width of a pair's attention maps."""
        return smaller_size(student, teacher)

    def key(self, layer: str, size: Size, shape: Shape) -> str:
        """Return the key of a layer's attention maps."""
        return f"attention {self.power:g} of {layer} averaged to {shape_text(size or ())}"

    def prepared(self, values: Tensor, size: Size) -> Tensor:
        """Return the attention maps of a layer, (B, H * W)."""
        return attention_map(values, self.power, size)

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the mean squared difference of attention maps, a scalar."""
        return (student - teacher).pow(2).mean()
