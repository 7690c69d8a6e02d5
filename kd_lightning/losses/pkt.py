"""Probabilistic knowledge transfer: the probability that one image is another's neighbour."""

from torch import Tensor

from kd_lightning.losses.across_images import AcrossImages
from kd_lightning.losses.layers import LayerLoss
from kd_lightning.losses.similarity import directions

MIN_PROBABILITY = 1e-7
"""Smallest probability of a neighbour: opposite features have a similarity of 0."""


def neighbour_probabilities(vectors: Tensor) -> Tensor:
    """Return the probability that one image is another's neighbour, from the cosine of their features.

    Args:
        vectors: (B, D).

    Returns:
        (B, B), rows of sum one.
    """
    units = directions(vectors)
    similarities = (1 + units @ units.T) / 2
    return (similarities / similarities.sum(1, keepdim=True)).clamp_min(MIN_PROBABILITY)


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


class PKT(AcrossImages, LayerLoss):
    """The divergence between the probabilities that student and teacher give two images of a batch to be neighbours.

    Passalis and Tefas, ECCV 2018, https://arxiv.org/abs/1803.10837: ``mean_(i, j) q_t log(q_t / q_s)``, where q is ``(1
    + cos(f_i, f_j)) / 2`` with rows divided by their sums. Like ``SimilarityPreserving`` it matches which images are
    near each other, but only by angles. The papers compare the vectors before the classifier, of a pooling or hidden
    layer. A map is flattened to one vector. It helps where lengths of features mean little.

    A weight of 30,000 is RepDistiller's setting for 100 classes, at a batch of 64. The mean is over B^2 pairs, but each
    row of q sums to one, so the loss falls as 1 / B: with twice the batch, use twice the weight. It has no parameters
    and costs ``B^2 (D + D')`` multiplications; the teacher cache holds the whole layer. The loss of a batch of one is
    0. Features of zeros have a cosine of 0 to all others.

    Args:
        student: The student's layer, such as ``classifier.1``.
    """

    short = "pkt"
    want = "vector"

    def __init__(
        self,
        student: str,
        teacher: str | None = None,
        weight: float = 30000.0,
        warm_up: int = 0,
        gather: bool = False,
    ) -> None:
        super().__init__(student, teacher, weight, warm_up)
        self.gather = gather

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the mean over pairs of images, a scalar, 0 or more."""
        return pkt_loss(self.whole(student), self.whole(teacher))
