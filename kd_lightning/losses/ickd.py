"""Inter-channel correlation: match which channels of an image respond alike."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kd_lightning.losses.base import to_float32
from kd_lightning.losses.layers import LayerLoss, Shape, Size, as_map
from kd_lightning.losses.projectors import Norm
from kd_lightning.losses.similarity import MIN_LENGTH, directions


def channel_correlations(feature_map: Tensor) -> Tensor:
    """Return ``f f^T`` of each image's channels, its rows of length one, (B, C, H, W) -> (B, C, C)."""
    channels = to_float32(feature_map).flatten(2)
    with torch.autocast(channels.device.type, enabled=False):
        products = channels @ channels.transpose(1, 2)
    return directions(products.flatten(0, 1), MIN_LENGTH**2).view_as(products)


def channel_loss(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Return ``|G_s - G_t|^2 / C``, averaged over the batch, of the correlations G.

    Liu et al., "Exploring Inter-Channel Correlation for Diversity-preserved Knowledge Distillation" (ICCV 2021,
    https://arxiv.org/abs/2202.03680).

    Args:
        student_map: After the projector, (B, C, H, W).
        teacher_map: (B, C, H', W').

    Returns:
        A scalar, 0 or more.
    """
    own, other = channel_correlations(student_map), channel_correlations(teacher_map)
    return (own - other).square().sum(2).mean()


class ICKD(LayerLoss):
    """The squared difference between the correlations of channels of the teacher and of the projected student.

    Liu et al., ICCV 2021, https://arxiv.org/abs/2202.03680: ``|G_s - G_t|^2 / C'`` of each image, where G is ``f f^T``
    of the channels of a map, flattened, its rows of length one, and the student's map first passes a trained 1x1
    convolution with BatchNorm to the teacher's C' channels. It matches which channels respond in like places, and so
    how diverse they are, but not where.

    A weight of 2.5 beside labels at 1 on the last map before pooling is the authors' setting for 100 classes. It trains
    ``C C' + 2 C'`` parameters, which are dropped after training; the authors' code has the parameters of an embedding
    of the teacher as well, which it does not use. The teacher cache holds the map. Heights and widths may differ, and a
    vector is a 1x1 map. It is defined for a batch of one; a channel of zeros has correlations of 0.

    Raises:
        UserError: A layer gives neither maps nor vectors.
    """

    short = "ickd"
    want = "pooled"

    def __init__(self, student: str, teacher: str | None = None, weight: float = 2.5, warm_up: int = 0) -> None:
        super().__init__(student, teacher, weight, warm_up)

    def size(self, student: Shape, teacher: Shape) -> Size:
        """Return ``None``: the correlations do not depend on heights and widths."""
        return None

    def connect(self, pairs: Sequence[tuple[Shape, Shape]]) -> None:
        """Create the projector."""
        [((channels, *_), (target, *_))] = pairs
        self.projector = nn.Sequential(nn.Conv2d(channels, target, kernel_size=1, bias=False), Norm(target))

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the mean over batch and channels, a scalar."""
        return channel_loss(self.projector(as_map(student)), as_map(teacher))
