"""Neuron selectivity transfer: match where the channels respond, as a distribution."""

import torch
from torch import Tensor
from torch.nn import functional

from kd_lightning.errors import UserError
from kd_lightning.losses.base import to_float32
from kd_lightning.losses.layers import LayerLoss, Shape, Size, smaller_size
from kd_lightning.losses.projectors import shape_text


def kernel_mean(one: Tensor, other: Tensor) -> Tensor:
    """Return the mean of ``(a . b)^2`` over the batch and all pairs of channels, (B, C, D), (B, C', D) -> a scalar."""
    return (one @ other.transpose(1, 2)).square().mean()


def selectivity_loss(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Return the squared maximum mean discrepancy of the channels' patterns, with the kernel ``(a . b)^2``.

    Huang and Wang, "Like What You Like: Knowledge Distill via Neuron Selectivity Transfer" (2017,
    https://arxiv.org/abs/1707.01219).

    Args:
        student_map: (B, C, H, W).
        teacher_map: (B, C', H, W).

    Returns:
        A scalar, 0 or more.
    """
    own, other = (functional.normalize(to_float32(maps).flatten(2), dim=2) for maps in (student_map, teacher_map))
    with torch.autocast(own.device.type, enabled=False):
        return kernel_mean(other, other) + kernel_mean(own, own) - 2 * kernel_mean(own, other)


class NST(LayerLoss):
    """The discrepancy between the distributions of the channels' patterns, summed over pairs of layers.

    Huang and Wang, 2017, https://arxiv.org/abs/1707.01219: ``mean k(t, t') + mean k(s, s') - 2 mean k(s, t)`` of each
    image, where s and t are channels of student and teacher, each flattened and divided by its length, and ``k(a, b) =
    (a . b)^2``. It matches which places of the image the channels respond to, whichever channel it is, so it needs no
    projector. It helps where student and teacher have similar stages.

    A weight of 50 beside labels at 1, one pair per stage, is RepDistiller's and mdistiller's setting for 100 classes.
    It has no parameters and costs ``B H W (C + C')^2`` multiplications. The teacher cache holds the maps. The larger
    map is averaged down to the smaller one. It is defined for a batch of one; a channel of zeros adds nothing.

    Args:
        student: The student's layers, one per stage; each gives maps of more than one position.

    Raises:
        UserError: The numbers of layers differ, or a layer gives no map or one of one position, where all patterns are
            alike.
    """

    short = "nst"

    def __init__(
        self,
        student: str | list[str],
        teacher: str | list[str] | None = None,
        weight: float = 50.0,
        warm_up: int = 0,
    ) -> None:
        super().__init__(student, teacher, weight, warm_up)

    def size(self, student: Shape, teacher: Shape) -> Size:
        """Return the smaller height and width."""
        size = smaller_size(student, teacher)
        if size == (1, 1):
            shapes = f"{shape_text(student)} and {shape_text(teacher)}"
            raise UserError(f"NST compares where channels respond, but maps of {shapes} have one place; name others.")
        return size

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the discrepancy, averaged over the batch, a scalar."""
        return selectivity_loss(student, teacher)
