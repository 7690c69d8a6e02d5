"""Relational knowledge distillation: distances and angles between the images of a batch."""

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from kd_lightning.errors import UserError
from kd_lightning.losses.relations import RelationLoss

NEAREST = 1e-4
"""Share of the mean distance from which one image lies in a direction from another."""

TRIPLES = 2**20
"""Angles that are computed at once, at least those at one image."""


def relative_distances(vectors: Tensor) -> Tensor:
    """Return the distances between images, as multiples of the mean of those above 0.

    Args:
        vectors: (B, D).

    Returns:
        (B, B); zeros where all images are alike. The gradient is 0 between images that are alike.
    """
    # not by a matrix product, which leaves noise where images are nearly alike
    distances = torch.cdist(vectors, vectors, compute_mode="donot_use_mm_for_euclid_dist")
    mean = distances.sum() / (distances > 0).sum().clamp_min(1)
    return distances / mean.where(mean > 0, 1.0)


def angle_cosines(distances: Tensor, at: Tensor) -> Tensor:
    """Return the cosines of the angles at some images between each two others, from distances alone.

    Args:
        distances: Relative ones, (B, B).
        at: Those from the images at which the angles are, (A, B).

    Returns:
        (A, B, B): at image a, between i and k. Where i or k is too near to a for a direction, it is 0.
    """
    is_apart = at > NEAREST
    sides = at.where(is_apart, 0.0) / 2
    inverse = is_apart / at.where(is_apart, 1.0)
    # the law of cosines at a: (d_ai^2 + d_ak^2 - d_ik^2) / (2 d_ai d_ak)
    ratios = sides[:, :, None] * inverse[:, None, :]
    opposite = distances.square() / 2 * (inverse[:, :, None] * inverse[:, None, :])
    return ratios + ratios.transpose(1, 2) - opposite


def angle_differences(own: Tensor, other: Tensor, own_at: Tensor, other_at: Tensor) -> Tensor:
    """Return the sum of Huber losses between the cosines of the student's and the teacher's angles at some images."""
    return functional.smooth_l1_loss(angle_cosines(own, own_at), angle_cosines(other, other_at), reduction="sum")


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
    triples = own.new_zeros(())
    images = max(1, TRIPLES // own.numel())
    for own_at, other_at in zip(own.split(images), other.split(images), strict=True):
        triples = triples + checkpoint(  # done again in the backward pass: B^3 numbers are never kept
            angle_differences, own, other, own_at, other_at, use_reentrant=False, preserve_rng_state=False
        )
    return pairs + angle * triples / len(own) ** 3


class RKD(RelationLoss):
    """The Huber losses between the distances and the angles that student and teacher see among a batch's images.

    Park et al., CVPR 2019, https://arxiv.org/abs/1904.05068: ``25 mean_(i, j) huber(d_ij / mean d) + 50 mean_(i, j, k)
    huber(cos of the angle at j)``, each between student and teacher. It matches the shape of the cloud of images,
    whatever its size and place, and however many values a feature has. The paper compares the features in front of the
    classifier; of a map all values are one vector.

    A weight of 1 with these two factors is the reference setting for 10 and for 100 classes, whatever the batch. It has
    no parameters; a remembered teacher keeps its whole layer. Angles take time by B^3 (measured on a CPU core: 0.1 s a
    step at a batch of 128, 0.6 s at 256) and memory by B^2 and in the backward pass by less than B^3 (0.2 GB at 256, 1
    GB at 512); the paper's RKD-D, of distances alone, is an ``angle`` of 0 and takes next to nothing. One image or two
    have no shape: they cost 0. Images that are alike have no direction from each other, and get no gradient from that.

    Args:
        student: The student's layer, such as ``classifier.1``.
        teacher: The teacher's layer; the student's name where it is not given.
        distance: Factor of the distances, 0 or more.
        angle: Factor of the angles, 0 or more.
        weight: What the term is multiplied with in the sum.
        warm_up: Epochs in which the weight rises.

    Raises:
        UserError: ``distance`` or ``angle`` is below 0.
    """

    works_with_fast_path = True
    short = "rkd"

    def __init__(
        self,
        student: str,
        teacher: str | None = None,
        distance: float = 25.0,
        angle: float = 50.0,
        weight: float = 1.0,
        warm_up: int = 0,
    ) -> None:
        super().__init__(student, teacher, weight, warm_up)
        for name, factor in (("distance", distance), ("angle", angle)):
            if not factor >= 0:
                raise UserError(f"{name} of RKD is {factor}, but it must be 0 or more.")
        self.distance, self.angle = distance, angle

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the weighted sum of both, a scalar, 0 or more."""
        return relational_loss(student, teacher, self.distance, self.angle)
