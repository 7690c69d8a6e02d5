"""Decoupled knowledge distillation: separate terms for the target class and for the other classes."""

from typing import Literal

from torch import Tensor

from kd_lightning.losses.logits import (
    LogitLoss,
    divergences,
    label_or_not,
    log_probabilities,
    require_positive,
    without_label,
)


def dkd_loss(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float, alpha: float, beta: float) -> Tensor:
    """Return ``T^2 (alpha KL(b_t, b_s) + beta KL(q_t, q_s))``, averaged over the batch.

    Zhao et al., "Decoupled Knowledge Distillation", CVPR 2022, https://arxiv.org/abs/2203.08679: b is
    ``[p_y, 1 - p_y]`` of the softened probabilities p and the label y, and q are the softened probabilities of the
    other classes among themselves.

    Args:
        student: Logits (B, num_classes).
        teacher: Logits (B, num_classes).
        labels: Class indices y, (B,).
        temperature: T, above 0.
        alpha: Factor of the label's part.
        beta: Factor of the other classes' part.

    Returns:
        A scalar, 0 or more.
    """
    networks = student, teacher
    own, other = (label_or_not(log_probabilities(logits, temperature), labels) for logits in networks)
    own_rest, other_rest = (log_probabilities(without_label(logits, labels), temperature) for logits in networks)
    parts = alpha * divergences(own, other) + beta * divergences(own_rest, other_rest)  # (B,)
    return temperature**2 * parts.mean()


class DKD(LogitLoss):
    """Soft targets in two parts with a factor each: the label's confidence, and the other classes among themselves.

    ``T^2 mean_b (alpha KL([p_y, 1 - p_y]_t || [p_y, 1 - p_y]_s) + beta KL(q_t || q_s))`` (Zhao et al., CVPR 2022,
    https://arxiv.org/abs/2203.08679), p softened by T and q the same without the label's class. Plain soft targets are
    alpha = 1 and beta = 1 - p_y of the teacher: the more confident it is, the less the other classes count. DKD helps
    where the teacher is confident on most training images.

    alpha = 1, beta = 8, T = 4, weight 1 beside labels at 1, with a warm-up of 20 epochs, is the reference setting for
    100 classes; beta is 2 or 6 for less confident teachers, and for ImageNet beta = 0.5 or 2, T = 1. The fewer the
    classes, the larger the gradient of the second part: at weight 1 the gradient of the whole is 6.6 times that of the
    labels for 10 classes, and 1.6 times for 100. So the default weight is ``sqrt((C - 1) / 99)``, 1 at most: 0.3 for
    10. For 10 classes it measured 1.6 points better than 1, and 0.1 better still. Give a run of fewer than some 60
    epochs a shorter ``warm_up``.

    It has no parameters. The teacher cache holds ``num_classes`` numbers per image. It needs one label per image: Mixup
    and CutMix are refused before training. For two classes the second part is 0.

    Args:
        temperature: T, above 0.
        alpha: Factor of the label's part.
        beta: Factor of the other classes' part.
        standardize: As in ``SoftTargets``; the reference then multiplies by 9, too.
        weight: Factor of the term in the total loss; ``auto`` is 1 from 100 classes on and 0.3 for 10.

    Raises:
        UserError: ``temperature`` is not above 0, or two classes are to be standardized.
    """

    short = "dkd"
    needs_labels = needs_hard_labels = True

    def __init__(
        self,
        temperature: float = 4.0,
        alpha: float = 1.0,
        beta: float = 8.0,
        standardize: bool = False,
        weight: float | Literal["auto"] = "auto",
        warm_up: int = 20,
    ) -> None:
        super().__init__(standardize, 1.0 if weight == "auto" else weight, warm_up)
        self.is_auto = weight == "auto"
        self.temperature = require_positive(self, "temperature", temperature)
        self.alpha, self.beta = alpha, beta

    def compare(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over the batch, a scalar."""
        return dkd_loss(student, teacher, labels, self.temperature, self.alpha, self.beta)
