"""Distillation by regressing the teacher's feature map."""

from typing import Any

from kd_lightning.losses import CrossEntropy, FeatureRegression
from kd_lightning.networks import Network
from kd_lightning.tasks.distill import Distill
from kd_lightning.teacher import AnyTeacher


class FeatureRegressDistill(Distill):
    """Train a student on the labels and on the teacher's feature map, which a trained regressor predicts from its own.

    The objective of PyTorch's tutorial: ``Distill`` with its losses filled in. The regressor is a 3x3 convolution from
    the student's channels to the teacher's; it is dropped after training.

    Args:
        network: The student.
        teacher: The teacher; it stays frozen.
        ce_loss_weight: Weight of the cross-entropy with the labels.
        feature_map_weight: Weight of the mean squared error between the maps.
        student_layer: The student's layer whose output is its map.
        teacher_layer: The teacher's.
        options: Further arguments, those of ``Distill``.

    Raises:
        UserError: The two feature maps differ in height or width.
    """

    def __init__(
        self,
        network: Network,
        teacher: AnyTeacher,
        ce_loss_weight: float = 0.75,
        feature_map_weight: float = 0.25,
        student_layer: str = "features",
        teacher_layer: str = "features",
        **options: Any,
    ) -> None:
        losses = {
            "labels": CrossEntropy(weight=ce_loss_weight),
            "feature_map_loss": FeatureRegression(student_layer, teacher_layer, weight=feature_map_weight),
        }
        super().__init__(network, teacher, losses, **options)
