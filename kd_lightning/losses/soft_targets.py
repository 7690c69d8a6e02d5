"""Soft targets: the teacher's softened probabilities."""

from torch import Tensor

from kd_lightning.losses.logits import LogitLoss, divergences, log_probabilities, require_positive


def soft_target_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return ``T^2 KL(softmax(z_t / T), softmax(z_s / T))``, averaged over the batch.

    Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015, https://arxiv.org/abs/1503.02531).

    Args:
        student: Logits (B, num_classes).
        teacher: Logits (B, num_classes).
        temperature: T, above 0.

    Returns:
        A scalar, 0 or more.
    """
    own, other = (log_probabilities(logits, temperature) for logits in (student, teacher))
    return temperature**2 * divergences(own, other).mean()


class SoftTargets(LogitLoss):
    """The divergence of the student's softened probabilities from the teacher's: plain knowledge distillation.

    ``T^2 mean_b KL(softmax(z_t / T) || softmax(z_s / T))`` (Hinton et al., 2015, https://arxiv.org/abs/1503.02531). It
    matches the whole distribution. It is hard to beat: try it first. The factor T^2 keeps the gradient's size when T
    changes. The divergence is a sum over classes; a mean over them would be C times too small.

    T = 4 with 0.9 beside labels at 0.1 is the usual setting for 10 and for 100 classes. At 10 classes its gradient is
    two to three times as large relative to the labels', but these count little here.

    ``standardize`` (Sun et al., CVPR 2024, https://arxiv.org/abs/2403.01427) is for a student that cannot reach logits
    as large as the teacher's. Its reference is T = 2 with 9 beside labels at 0.1 for 100 classes. For 10 take T = 1: no
    standardized logit exceeds (C - 1) / sqrt(C), which is 2.85, and so no probability 0.351 at T = 2.

    It has no parameters. The teacher cache holds ``num_classes`` numbers per image, once for all losses on logits. It
    works with a batch of one, mixed images and two classes, which cannot be standardized.

    Args:
        temperature: T, above 0.

    Raises:
        UserError: ``temperature`` is not above 0, or two classes are to be standardized.
    """

    short = "kd"

    def __init__(
        self, temperature: float = 4.0, standardize: bool = False, weight: float = 0.9, warm_up: int = 0
    ) -> None:
        super().__init__(standardize, weight, warm_up)
        self.temperature = require_positive(self, "temperature", temperature)

    def compare(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over the batch, a scalar."""
        return soft_target_loss(student, teacher, self.temperature)
