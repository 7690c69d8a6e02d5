"""Distillation by the cosine between hidden representations."""

from typing import Any

from kd_lightning.losses import CrossEntropy, HiddenCosine
from kd_lightning.networks import Network
from kd_lightning.tasks.distill import Distill
from kd_lightning.teacher import AnyTeacher


class CosineDistill(Distill):
    """Train a student on the labels and on the direction of the teacher's hidden representation.

    The objective of PyTorch's tutorial: ``Distill`` with the losses cross-entropy and one minus the cosine between the
    flattened feature maps, the teacher's pooled to the student's length.

    Args:
        network: The student.
        teacher: The teacher; it stays frozen.
        ce_loss_weight: Weight of the cross-entropy with the labels.
        hidden_rep_loss_weight: Weight of the cosine loss.
        student_layer: The student's hidden representation.
        teacher_layer: The teacher's.
        options: Further arguments, those of ``Distill``.

    Raises:
        UserError: The teacher's representation does not pool to the student's length.
    """

    def __init__(
        self,
        network: Network,
        teacher: AnyTeacher,
        ce_loss_weight: float = 0.75,
        hidden_rep_loss_weight: float = 0.25,
        student_layer: str = "features",
        teacher_layer: str = "features",
        **options: Any,
    ) -> None:
        losses = {
            "labels": CrossEntropy(weight=ce_loss_weight),
            "hidden_rep_loss": HiddenCosine(student_layer, teacher_layer, weight=hidden_rep_loss_weight),
        }
        super().__init__(network, teacher, losses, **options)
