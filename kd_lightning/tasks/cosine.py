"""Distillation by the cosine between hidden representations."""

from math import prod
from typing import Any

from torch import Tensor
from torch.nn import functional

from kd_lightning.data.loader import Batch
from kd_lightning.errors import UserError
from kd_lightning.losses import cosine_loss, pooled_direction
from kd_lightning.networks import Network
from kd_lightning.outcome import Outcome
from kd_lightning.tasks.distill import DistillTask
from kd_lightning.teacher import Teacher, TeacherOutput


class CosineDistill(DistillTask):
    """Train a student on the labels and on the direction of the teacher's hidden representation.

    The seed's objective: cross-entropy, and one minus the cosine between the flattened feature maps, the teacher's
    pooled to the student's length.

    Args:
        network: The student.
        teacher: The teacher; it never changes.
        ce_loss_weight: Weight of the cross-entropy with the labels.
        hidden_rep_loss_weight: Weight of the cosine loss.
        options: Further arguments, those of ``DistillTask``.

    Raises:
        UserError: The teacher's representation does not pool to the student's length.
    """

    works_with_fast_path = True

    def __init__(
        self,
        network: Network,
        teacher: Teacher,
        ce_loss_weight: float = 0.75,
        hidden_rep_loss_weight: float = 0.25,
        **options: Any,
    ) -> None:
        weights = {"ce_loss": ce_loss_weight, "hidden_rep_loss": hidden_rep_loss_weight}
        super().__init__(network, teacher, weights, **options)
        self.student_shape = network.feature_shape()
        student_size, teacher_size = prod(self.student_shape), prod(teacher.network.feature_shape())
        if teacher_size % student_size:
            raise UserError(
                f"the teacher's representation has {teacher_size} values, which do not pool to the student's "
                f"{student_size}; choose a teacher with a multiple of it, or FeatureRegressDistill."
            )

    def target(self, teacher: TeacherOutput) -> Tensor:
        """Return the direction of the teacher's feature map, pooled to the size of the student's, (B, C, H, W)."""
        return pooled_direction(teacher.feature_map, self.student_shape)

    def outcome(self, batch: Batch) -> Outcome:
        """Return the student's logits, their cross-entropy, and the cosine loss between the representations."""
        student_map = self.network.feature_map(batch.images)  # (B, C, H, W)
        logits = self.network.classify(student_map)
        teacher = self.ask_teacher(batch)
        terms = {
            "ce_loss": functional.cross_entropy(logits, batch.labels),
            "hidden_rep_loss": cosine_loss(student_map, teacher.target),
        }
        return Outcome(logits, terms, teacher.logits)
