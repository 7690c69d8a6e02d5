"""Probabilistic knowledge transfer: how likely each image is another one's neighbour."""

from torch import Tensor

from kd_lightning.losses.relations import RelationLoss, directions

LEAST = 1e-7
"""Probability that any image at least has: opposite features have a similarity of 0."""


def neighbour_probabilities(vectors: Tensor) -> Tensor:
    """Return the probability of each image to be another one's neighbour, by the cosine of their features.

    Args:
        vectors: (B, D).

    Returns:
        (B, B), rows of sum one.
    """
    lengthless = directions(vectors)
    similarities = (1 + lengthless @ lengthless.T) / 2
    return (similarities / similarities.sum(1, keepdim=True)).clamp_min(LEAST)


def pkt_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the divergence of the student's neighbour probabilities from the teacher's, averaged over all pairs.

    Passalis and Tefas, "Learning Deep Representations with Probabilistic Knowledge Transfer" (ECCV 2018,
    https://arxiv.org/abs/1803.10837).

    Args:
        student: (B, D).
        teacher: (B, D').

    Returns:
        A scalar, 0 or more.
    """
    own, other = neighbour_probabilities(student), neighbour_probabilities(teacher)
    return (other * (other.log() - own.log())).mean()


class PKT(RelationLoss):
    """The divergence between how probably student and teacher see the images of a batch as neighbours.

    Passalis and Tefas, ECCV 2018, https://arxiv.org/abs/1803.10837: ``mean_(i, j) q_t log(q_t / q_s)``, where q is
    ``(1 + cos(f_i, f_j)) / 2`` with rows divided by their sums. Like ``SimilarityPreserving`` it matches who is near to
    whom, but by angles alone. The papers compare the features in front of the classifier: a pooling or hidden layer, of
    vectors. Of a map all values are one vector, as they are for the cosine.

    A weight of 30,000 is RepDistiller's setting for 100 classes, at a batch of 64. The mean is over B^2 pairs
    though each row of q sums to one, so the loss falls as 1 / B: with twice the batch, take twice the weight. It has no
    parameters and costs ``B^2 (D + D')`` multiplications; a remembered teacher keeps its whole layer. A batch of one
    costs 0. Features of zeros are at a right angle to all.

    Args:
        student: The student's layer, such as ``classifier.1``.
        teacher: The teacher's layer; the student's name where it is not given.
        weight: What the term is multiplied with in the sum.
        warm_up: Epochs in which the weight rises.
    """

    works_with_fast_path = True
    short = "pkt"

    def __init__(self, student: str, teacher: str | None = None, weight: float = 30000.0, warm_up: int = 0) -> None:
        super().__init__(student, teacher, weight, warm_up)

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the mean over pairs of images, a scalar, 0 or more."""
        return pkt_loss(student, teacher)
