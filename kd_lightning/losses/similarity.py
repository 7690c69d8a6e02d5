"""Similarity preserving: which images of a batch are alike."""

from torch import Tensor
from torch.nn import functional

from kd_lightning.losses.relations import SHORTEST, RelationLoss, directions


def similarity_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean squared difference between the similarities of images.

    Tung and Mori, "Similarity-Preserving Knowledge Distillation" (ICCV 2019, https://arxiv.org/abs/1907.09682).

    Args:
        student: (B, D).
        teacher: (B, D').

    Returns:
        A scalar, 0 or more: the squared Frobenius norm of the difference, over B^2.
    """
    own, other = (directions(values @ values.T, SHORTEST**2) for values in (student, teacher))
    return functional.mse_loss(own, other)


class SimilarityPreserving(RelationLoss):
    """The mean squared difference between the similarities that student and teacher see among a batch's images.

    Tung and Mori, ICCV 2019, https://arxiv.org/abs/1907.09682: ``|G_s - G_t|^2 / B^2``, where G is ``f f^T`` of the
    flattened features (B, D), its rows of length one. It says which images are alike, and nothing of how a network
    encodes that, so layers of any shapes compare: it helps where the two networks are built differently.

    A weight of 3000 on the last map before pooling is RepDistiller's setting for 100 classes, at a batch of 64. A row's
    share is bounded, so the loss falls as 1 / B: with twice the batch, take twice the weight. It has no parameters and
    costs ``B^2 (D + D')`` multiplications; a remembered teacher keeps its whole layer. One image is like itself: a
    batch of one costs 0. An image of zeros is like none.

    Args:
        student: The student's layer, such as ``features``.
        teacher: The teacher's layer; the student's name where it is not given.
        weight: What the term is multiplied with in the sum.
        warm_up: Epochs in which the weight rises.
    """

    works_with_fast_path = True
    short = "sp"

    def __init__(self, student: str, teacher: str | None = None, weight: float = 3000.0, warm_up: int = 0) -> None:
        super().__init__(student, teacher, weight, warm_up)

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the mean over pairs of images, a scalar."""
        return similarity_loss(student, teacher)
