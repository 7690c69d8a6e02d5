"""Similarity preserving: match which images of a batch are similar."""

import torch
from torch import Tensor, linalg
from torch.nn import functional

from kd_lightning.losses.across_images import AcrossImages
from kd_lightning.losses.layers import LayerLoss

MIN_LENGTH = 1e-6
"""Length up to which a vector counts as zero."""


def directions(vectors: Tensor, min_length: float = MIN_LENGTH) -> Tensor:
    """Return vectors (B, D) at length one; those up to ``min_length`` become zeros and get no gradient."""
    lengths: Tensor = linalg.vector_norm(vectors, dim=1, keepdim=True)
    return vectors / lengths.where(lengths > min_length, torch.inf)


def similarity_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared difference between the similarities of images.

    Tung and Mori, "Similarity-Preserving Knowledge Distillation" (ICCV 2019, https://arxiv.org/abs/1907.09682).

    Args:
        student: (B, D).
        teacher: (B, D').

    Returns:
        A scalar, 0 or more: the squared Frobenius norm of the difference, over B^2.
    """
    own, other = (directions(values @ values.T, MIN_LENGTH**2) for values in (student, teacher))
    return functional.mse_loss(own, other)


class SimilarityPreserving(AcrossImages, LayerLoss):
    """The mean squared difference between the image similarities of student and teacher within a batch.

    Tung and Mori, ICCV 2019, https://arxiv.org/abs/1907.09682: ``|G_s - G_t|^2 / B^2``, where G is ``f f^T`` of the
    flattened features (B, D), its rows of length one. It depends on which images are similar, not on how a network
    encodes that, so layers of any shapes can be compared. It helps where the two networks differ in architecture.

    A weight of 3000 on the last map before pooling is RepDistiller's setting for 100 classes, at a batch of 64. A row's
    share is bounded, so the loss falls as 1 / B: with twice the batch, use twice the weight. It has no parameters and
    costs ``B^2 (D + D')`` multiplications; the teacher cache holds the whole layer. The loss of a batch of one is 0.
    Features of zeros have a similarity of 0 to all others.

    """

    short = "sp"
    want = "vector"

    def __init__(
        self,
        student: str,
        teacher: str | None = None,
        weight: float = 3000.0,
        warm_up: int = 0,
        gather: bool = False,
    ) -> None:
        super().__init__(student, teacher, weight, warm_up)
        self.gather = gather

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the mean over pairs of images, a scalar."""
        return similarity_loss(self.whole(student), self.whole(teacher))
