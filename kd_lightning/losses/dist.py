"""DIST: correlations of probabilities, over the classes of an image and over the images of a class."""

from math import inf

from torch import Tensor, linalg

from kd_lightning.losses.across_images import AcrossImages
from kd_lightning.losses.logits import LogitLoss, log_probabilities, require_positive

MIN_LENGTH = 1e-6
"""Length below which a centred vector counts as constant."""


def dist_loss(student: Tensor, teacher: Tensor, temperature: float, beta: float, gamma: float) -> Tensor:
    """Return ``T^2 (beta (1 - mean_b rho(p_s[b], p_t[b])) + gamma (1 - mean_c rho(p_s[:, c], p_t[:, c])))``.

    Huang et al., "Knowledge Distillation from A Stronger Teacher", NeurIPS 2022, https://arxiv.org/abs/2205.10536: p
    are the softened probabilities, and rho is Pearson's correlation.

    Args:
        student: Logits (B, num_classes).
        teacher: Logits (B, num_classes).
        temperature: T, above 0.
        beta: Factor of the correlations over classes, one per image.
        gamma: Factor of the correlations over images, one per class.

    Returns:
        A scalar in [0, 2 T^2 (beta + gamma)].
    """
    own, other = (log_probabilities(logits, temperature).exp() for logits in (student, teacher))
    over_classes, over_images = correlations(own, other).mean(), correlations(own.T, other.T).mean()
    return temperature**2 * (beta * (1 - over_classes) + gamma * (1 - over_images))


def correlations(one: Tensor, other: Tensor) -> Tensor:
    """Return Pearson's correlation of each row with the same row, (N, K) -> (N,); 0 where one of them is constant."""
    return (_directions(one) * _directions(other)).sum(1)


def _directions(rows: Tensor) -> Tensor:
    """Return centred rows of length one; a constant row is 0 and gets no gradient, which would be some 1e6."""
    centred = rows - rows.mean(1, keepdim=True)
    lengths: Tensor = linalg.vector_norm(centred, dim=1, keepdim=True)
    return centred / lengths.masked_fill(lengths < MIN_LENGTH, inf)


class DIST(AcrossImages, LogitLoss):
    """One minus the correlation of the softened probabilities: over the classes of an image, and the images of a class.

    ``T^2 (beta (1 - mean_b rho(p_s[b], p_t[b])) + gamma (1 - mean_c rho(p_s[:, c], p_t[:, c])))`` (Huang et al.,
    NeurIPS 2022, https://arxiv.org/abs/2205.10536). It matches which classes and images stand out, not by how much. It
    helps where the teacher is much stronger than the student, which cannot reach its probabilities.

    beta = gamma = 1, T = 4, weight 2 beside labels at 1 is the reference setting for 100 classes. It stays for 10
    classes: correlations lie in [-1, 1] for any number of values. Larger batches make those over images more exact.

    It has no parameters. The teacher cache holds ``num_classes`` numbers per image. It works with mixed images.
    Correlations of two classes, or in a batch of two images, are -1 or 1, in a batch of one and of constant
    probabilities 0: that part of the loss is constant then, without gradient.

    Args:
        temperature: T, above 0.
        beta: Factor of the part over the classes of each image.
        gamma: Factor of the part over the images of each class.

    Raises:
        UserError: ``temperature`` is not above 0, or two classes are to be standardized.
    """

    short = "dist"

    def __init__(
        self,
        temperature: float = 4.0,
        beta: float = 1.0,
        gamma: float = 1.0,
        standardize: bool = False,
        weight: float = 2.0,
        warm_up: int = 0,
        gather: bool = False,
    ) -> None:
        super().__init__(standardize, weight, warm_up)
        self.gather = gather
        self.temperature = require_positive(self, "temperature", temperature)
        self.beta, self.gamma = beta, gamma

    def compare(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over images and over classes, a scalar."""
        return dist_loss(self.whole(student), self.whole(teacher), self.temperature, self.beta, self.gamma)
