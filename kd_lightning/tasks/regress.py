"""Distillation by regressing the teacher's feature map."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from kd_lightning.data.loader import Batch
from kd_lightning.errors import UserError
from kd_lightning.losses import feature_map_loss
from kd_lightning.networks import Network
from kd_lightning.outcome import Outcome
from kd_lightning.tasks.distill import DistillTask
from kd_lightning.teacher import Teacher, TeacherOutput


class FeatureRegressDistill(DistillTask):
    """Train a student on the labels and on the teacher's feature map, which a trained regressor predicts from its own.

    The regressor is a 3x3 convolution from the student's channels to the teacher's; it is left behind after training.

    Args:
        network: The student.
        teacher: The teacher; it never changes.
        ce_loss_weight: Weight of the cross-entropy with the labels.
        feature_map_weight: Weight of the mean squared error between the maps.
        options: Further arguments, those of ``DistillTask``.

    Raises:
        UserError: The two feature maps differ in height or width.
    """

    works_with_fast_path = True

    def __init__(
        self,
        network: Network,
        teacher: Teacher,
        ce_loss_weight: float = 0.75,
        feature_map_weight: float = 0.25,
        **options: Any,
    ) -> None:
        weights = {"ce_loss": ce_loss_weight, "feature_map_loss": feature_map_weight}
        super().__init__(network, teacher, weights, **options)
        student, target = network.feature_shape(), teacher.network.feature_shape()
        if student[1:] != target[1:]:
            raise UserError(
                f"the student's feature map is {student[1]}x{student[2]}, the teacher's {target[1]}x{target[2]}; "
                "choose networks whose maps have the same height and width, or CosineDistill."
            )
        self.regressor = nn.Conv2d(student[0], target[0], kernel_size=3, padding=1)

    def trained_parameters(self) -> Iterator[nn.Parameter]:
        """Give the student's parameters and the regressor's."""
        yield from self.network.parameters()
        yield from self.regressor.parameters()

    def target(self, teacher: TeacherOutput) -> Tensor:
        """Return the teacher's feature map, (B, C, H, W)."""
        return teacher.feature_map

    def outcome(self, batch: Batch) -> Outcome:
        """Return the student's logits, their cross-entropy, and the error of the regressed feature map."""
        student_map = self.network.feature_map(batch.images)  # (B, C, H, W)
        logits = self.network.classify(student_map)
        teacher = self.ask_teacher(batch)
        terms = {
            "ce_loss": functional.cross_entropy(logits, batch.labels),
            "feature_map_loss": feature_map_loss(self.regressor(student_map), teacher.target),
        }
        return Outcome(logits, terms, teacher.logits)
