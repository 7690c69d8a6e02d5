"""Relational knowledge distillation: distances and angles between the images of a batch."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from kd_lightning.errors import UserError
from kd_lightning.losses.across_images import AcrossImages
from kd_lightning.losses.layers import LayerLoss

MIN_DISTANCE = 1e-4
"""Smallest distance, as a share of the mean, at which two images define a direction."""

TRIPLES = 2**18
"""Angles computed at once, as many as fit into a core's cache; at least those at one image."""


def relative_distances(vectors: Tensor) -> Tensor:
    """Return the distances between images, as multiples of the mean of those above 0.

    Args:
        vectors: (B, D).

    Returns:
        (B, B); zeros where all images are equal. The gradient between equal images is 0.
    """
    # not by a matrix product, which is inexact where images are nearly equal
    distances = torch.cdist(vectors, vectors, compute_mode="donot_use_mm_for_euclid_dist")
    mean = distances.sum() / (distances > 0).sum().clamp_min(1)
    return distances / mean.where(mean > 0, 1.0)


def reciprocals(at: Tensor) -> Tensor:
    """Return 1 over each distance, and 0 where it is too small for a direction."""
    is_apart = at > MIN_DISTANCE
    return is_apart / at.where(is_apart, 1.0)


def angle_cosines(distances: Tensor, at: Tensor) -> Tensor:
    """Return the cosines of the angles at some images between each two others, from distances only.

    Args:
        distances: Relative ones, (B, B).
        at: Distances from the images at which the angles are, (A, B).

    Returns:
        (A, B, B): at image a, between i and k. Where i or k is too near to a for a direction, it is 0. It has no
        gradient: ``AngleLoss`` has it.
    """
    inverse = reciprocals(at)
    sides = at.square() / 2
    # the law of cosines at a: (d_ai^2 + d_ak^2 - d_ik^2) / (2 d_ai d_ak)
    cosines = sides[:, :, None] + sides[:, None, :]
    return cosines.sub_(distances.square() / 2).mul_(inverse[:, :, None]).mul_(inverse[:, None, :])


class AngleLoss(torch.autograd.Function):
    """The sum of the Huber losses between the cosines of the student's and the teacher's angles, over B^3 triples.

    Its gradient is explicit and computed with it, for some images at a time: automatic differentiation would store or
    recompute B^3 numbers in each of some twenty steps.
    """

    @staticmethod
    def forward(ctx: Any, own: Tensor, other: Tensor) -> Tensor:
        """Return the sum, a scalar, of the student's and the teacher's relative distances, (B, B) each."""
        total, opposite, adjacent = own.new_zeros(()), torch.zeros_like(own), []
        squares = own.square()
        images = max(1, TRIPLES // own.numel())
        for own_at, other_at in zip(own.split(images), other.split(images), strict=True):
            differences = angle_cosines(own, own_at).sub_(angle_cosines(other, other_at))
            slopes = differences.clamp(-1, 1)  # of the Huber loss, which is slope * (difference - slope / 2)
            total += differences.sub_(slopes, alpha=0.5).mul_(slopes).sum()
            inverse = reciprocals(own_at)
            by_inverse, by_side = (slopes @ torch.stack([inverse, own_at * (inverse > 0)], 2)).unbind(2)
            slopes.mul_(inverse[:, None, :])
            by_square = torch.einsum("aik,ik->ai", slopes, squares)
            # the cosine by d_ai, where d_ai is side i of the angle as well as side k
            adjacent.append((inverse > 0) * by_inverse + inverse.square() * (by_square - by_side))
            opposite -= slopes.mul_(inverse[:, :, None]).sum(0)  # by d_ik^2 / 2
        ctx.save_for_backward(opposite * own + torch.cat(adjacent))
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Return the gradient by the student's distances; the teacher gets none."""
        return gradient * ctx.saved_tensors[0], None


def relational_loss(student: Tensor, teacher: Tensor, distance: float, angle: float) -> Tensor:
    """Return the Huber losses between relative distances and between cosines of angles, weighted.

    Park, Kim, Lu and Cho, "Relational Knowledge Distillation" (CVPR 2019, https://arxiv.org/abs/1904.05068).

    Args:
        student: (B, D).
        teacher: (B, D').
        distance: Weight of the mean over the B^2 pairs.
        angle: Weight of the mean over the B^3 triples.

    Returns:
        A scalar, 0 or more.
    """
    own, other = relative_distances(student), relative_distances(teacher)
    pairs = distance * functional.smooth_l1_loss(own, other)
    if angle == 0:
        return pairs
    triples: Tensor = AngleLoss.apply(own, other)
    return pairs + angle * triples / len(own) ** 3


class RKD(AcrossImages, LayerLoss):
    """The Huber losses between the distances and the angles of a batch's images in student and teacher.

    Park et al., CVPR 2019, https://arxiv.org/abs/1904.05068: ``25 mean_(i, j) huber(d_ij / mean d) + 50 mean_(i, j, k)
    huber(cos of the angle at j)``, each between student and teacher. It matches the relative arrangement of the images,
    whatever its scale and offset and however many values a feature has. The paper compares the features before the
    classifier; a map is flattened to one vector. It helps where the two networks encode images in different ways.

    A weight of 1 with these two factors is RepDistiller's setting for 100 classes; it does not depend on the batch
    size. It has no parameters; the teacher cache holds the whole layer. Angles take O(B^3) time (measured on a CPU
    core: 0.02 s per step at a batch of 128, 0.2 s at 256) and O(B^2) memory; the paper's RKD-D, only distances, is
    ``angle`` 0 and costs almost nothing. The loss of one or two images is 0. Equal images define no direction and get
    no gradient from it.

    Args:
        student: The student's layer, such as ``classifier.1``.
        distance: Factor of the distances, 0 or more.
        angle: Factor of the angles, 0 or more.

    Raises:
        UserError: ``distance`` or ``angle`` is below 0.
    """

    short = "rkd"
    want = "vector"

    def __init__(
        self,
        student: str,
        teacher: str | None = None,
        distance: float = 25.0,
        angle: float = 50.0,
        weight: float = 1.0,
        warm_up: int = 0,
        gather: bool = False,
    ) -> None:
        super().__init__(student, teacher, weight, warm_up)
        self.gather = gather
        for name, factor in (("distance", distance), ("angle", angle)):
            if not factor >= 0:
                raise UserError(f"{name} of RKD is {factor}, but it must be 0 or more.")
        self.distance, self.angle = distance, angle

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the weighted sum of both, a scalar, 0 or more."""
        return relational_loss(self.whole(student), self.whole(teacher), self.distance, self.angle)
