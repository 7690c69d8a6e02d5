"""Shared code of the losses on logits."""

from abc import abstractmethod
from math import inf, sqrt

import torch
from torch import Tensor
from torch.nn import functional

from kd_lightning.data.loader import Batch
from kd_lightning.errors import UserError
from kd_lightning.losses.base import Loss, Targets, require_teacher, to_float32
from kd_lightning.networks.layers import LOGITS, Outputs, Shapes

MIN_DEVIATION = 1e-6
"""Standard deviation below which logits count as constant."""


class LogitLoss(Loss):
    """A loss between the logits of student and teacher.

    A loss of your own subclasses this and implements ``compare``.

    Args:
        standardize: Whether each image's logits, the student's and the teacher's, are first standardized to mean 0 and
            standard deviation 1, by ``standardized``; for three classes or more.

    Attributes:
        is_auto: Whether the weight is ``weight_by_classes``.
        student_layers: The layer whose logits are compared, the network's ``distillation_head``; none for its logits.

    Raises:
        UserError: Two classes are to be standardized, or an option is out of its range.
    """

    is_auto = False

    def __init__(self, standardize: bool = False, weight: float = 1.0, warm_up: int = 0) -> None:
        super().__init__(weight, warm_up)
        self.standardize = standardize

    def build(self, student: Shapes, teacher: Shapes | None) -> None:
        """Check that the teacher has as many classes, and that there are three or more to standardize."""
        teacher, classes = require_teacher(self, teacher), student[LOGITS][0]
        if student[LOGITS] != teacher[LOGITS]:
            raise UserError(
                f"{type(self).__name__} compares logits, but the teacher has {teacher[LOGITS][0]} classes, the data "
                f"has {classes}; fine-tune the teacher (docs/teachers.md#fine-tuning), or use losses on layers."
            )
        if self.standardize and classes < 3:
            raise UserError(
                f"standardize of {type(self).__name__} is true, but of 2 classes standardized logits tell only "
                "which one is more likely; leave it out."
            )
        if self.is_auto:
            self.set_weight(weight_by_classes(classes))

    def teacher_target(self, teacher: Outputs) -> Targets:
        """Return the teacher's logits, (B, num_classes)."""
        return {LOGITS: teacher.logits}

    def forward(self, student: Outputs, target: Targets, batch: Batch) -> Tensor:
        """Return the mean over the batch, a scalar."""
        [own] = [student.maps[layer] for layer in self.student_layers] or [student.logits]
        other = target[LOGITS]
        if self.standardize:
            own, other = standardized(own), standardized(other)
        return self.compare(own, other, batch.labels)

    @abstractmethod
    def compare(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Return the loss between two batches of logits, a scalar.

        Args:
            student: (B, num_classes).
            teacher: (B, num_classes).
            labels: The batch's labels: class indices (B,), or class probabilities (B, num_classes) where images were
                mixed.
        """


def weight_by_classes(classes: int) -> float:
    """Return ``sqrt((C - 1) / 99)``, 1 at most: the weight of DKD and NKD that has 1 for 100 classes.

    The softened probabilities of C - 1 classes are some 1 / (C - 1) each, and so are their differences; the norm of the
    gradient over all of them falls as ``1 / sqrt(C - 1)``, while that of the labels' hardly depends on C. Above 100
    classes the published weight stays: for 1,000 the authors give the part less weight, not more.

    Args:
        classes: C, 2 or more.

    Returns:
        A number in (0, 1] with two decimals: 0.3 for 10 classes.
    """
    return round(min(1.0, sqrt((classes - 1) / 99)), 2)


def standardized(logits: Tensor) -> Tensor:
    """Return each image's logits with mean 0 and standard deviation 1, ``(z - mean(z)) / (std(z) + 1e-7)``.

    Sun et al., "Logit Standardization in Knowledge Distillation", CVPR 2024, https://arxiv.org/abs/2403.01427: what
    remains are the relations between the classes, which a student can match without logits as large as the teacher's.
    The deviation is that of a sample (a sum divided by C - 1), as in the paper's code, so that of C classes no value
    exceeds ``(C - 1) / sqrt(C)``: 2.85 of 10, 9.9 of 100.

    Args:
        logits: (B, C).

    Returns:
        (B, C), in float32 at least. Constant logits are 0 and get no gradient, which would be some 1e7.
    """
    values = to_float32(logits)
    deviation = values.std(1, keepdim=True) + 1e-7  # (B, 1)
    return (values - values.mean(1, keepdim=True)) / deviation.masked_fill(deviation < MIN_DEVIATION, inf)


def log_probabilities(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the logarithms of softened probabilities, (B, C) -> (B, C), in float32 at least."""
    return functional.log_softmax(to_float32(logits) / temperature, dim=1)


def divergences(student: Tensor, teacher: Tensor) -> Tensor:
    """Return each image's ``KL(p_t, p_s)`` of logarithms of probabilities, (B, C) -> (B,)."""
    return functional.kl_div(student, teacher, reduction="none", log_target=True).sum(1)


def without_label(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the logits of all classes except each image's own, (B, C) -> (B, C - 1).

    Args:
        logits: (B, C).
        labels: Class indices, (B,).
    """
    classes = torch.arange(logits.shape[1] - 1, device=logits.device)
    return logits.gather(1, classes + (classes >= labels.unsqueeze(1)))


def label_or_not(logs: Tensor, labels: Tensor) -> Tensor:
    """Return the logarithms of ``p_y`` and of ``1 - p_y`` of logarithms of probabilities, (B, C) -> (B, 2)."""
    label = logs.gather(1, labels.unsqueeze(1))
    return torch.cat([label, without_label(logs, labels).logsumexp(1, keepdim=True)], dim=1)


def require_positive(loss: Loss, name: str, value: float) -> float:
    """Return ``value`` if it is positive and finite.

    Raises:
        UserError: It is not above 0, or not finite.
    """
    if not 0 < value < inf:
        raise UserError(f"{name} of {type(loss).__name__} is {value}, but it must be above 0.")
    return value
