"""Refined logit distillation: where the teacher is wrong about the label, what contradicts the label is left out."""

from math import inf
from typing import Literal

from torch import Tensor

from kd_lightning.losses.logits import (
    LogitLoss,
    divergences,
    label_or_not,
    log_probabilities,
    require_positive,
)


def confidence_loss(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return ``T^2 KL([p_t,max, 1 - p_t,max], [p_s,y, 1 - p_s,y])``, averaged over the batch.

    Args:
        student: Logits (B, num_classes).
        teacher: Logits (B, num_classes).
        labels: Class indices y, (B,).
        temperature: T, above 0.

    Returns:
        A scalar, 0 or more.
    """
    own = label_or_not(log_probabilities(student, temperature), labels)
    other = label_or_not(log_probabilities(teacher, temperature), teacher.argmax(1))
    return temperature**2 * divergences(own, other).mean()


def masked_loss(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Return ``T^2 KL(q_t, q_s)``, averaged over the batch, of the classes that the teacher ranks below the label.

    Args:
        student: Logits (B, num_classes).
        teacher: Logits (B, num_classes).
        labels: Class indices, (B,).
        temperature: T, above 0.

    Returns:
        A scalar, 0 or more; an image with fewer than two such classes adds 0.
    """
    left_out = teacher >= teacher.gather(1, labels.unsqueeze(1))
    is_empty = left_out.all(1, keepdim=True)
    left_out = left_out & ~is_empty  # probabilities of no class would not be finite
    own, other = (
        log_probabilities(logits.masked_fill(left_out, -inf), temperature).masked_fill(left_out, 0)
        for logits in (student, teacher)
    )
    parts = (other.exp() * (other - own)).masked_fill(is_empty, 0)  # (B, C), 0 for the classes left out
    return temperature**2 * parts.sum(1).mean()


class RLD(LogitLoss):
    """Soft targets in two parts that never contradict the label: the teacher's confidence, and the classes below it.

    ``T^2 mean_b (alpha KL([p_max, 1 - p_max]_t || [p_y, 1 - p_y]_s) + beta KL(q_t || q_s))`` (Sun et al., "Knowledge
    Distillation with Refined Logits", ICCV 2025, https://arxiv.org/abs/2408.07703), p softened by T. The student is to
    be as sure of the label y as the teacher is of its own first choice; q are the probabilities, among themselves, of
    the classes that the teacher ranks below the label. Where the teacher is right, it is ``DKD``; where it is wrong,
    the classes that it prefers to the label are left out. It helps where the teacher is often wrong on training images.

    alpha = 1, beta = 8, T = 4, weight 1 beside labels at 1, with a warm-up of 20 epochs, is the authors' setting for
    100 classes (beta = 0.5, T = 1 for ImageNet). The default weight is that of ``DKD``, 0.3 for 10 classes, for the
    same reason. Give a run of fewer than some 60 epochs a shorter ``warm_up``.

    It has no parameters. The teacher cache holds ``num_classes`` numbers per image. It needs one label per image: Mixup
    and CutMix are refused before training. The second part of an image is 0 where fewer than two classes are below its
    label, and so for two classes.

    Args:
        temperature: T, above 0.
        alpha: Factor of the teacher's confidence.
        beta: Factor of the classes below the label.
        standardize: As in ``SoftTargets``; both parts see standardized logits.
        weight: Factor of the term in the total loss; ``auto`` is 1 from 100 classes on and 0.3 for 10.

    Raises:
        UserError: ``temperature`` is not above 0, or two classes are to be standardized.
    """

    short = "rld"
    needs_hard_labels = True

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
        inputs = student, teacher, labels, self.temperature
        return self.alpha * confidence_loss(*inputs) + self.beta * masked_loss(*inputs)
