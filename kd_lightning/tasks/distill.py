"""What every distillation shares: a student, a frozen teacher, and one view of each image for both."""

from typing import Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torchmetrics.classification import MulticlassAccuracy

from kd_lightning.data.loader import Batch
from kd_lightning.errors import UserError
from kd_lightning.networks import Network
from kd_lightning.tasks.base import Outcome, Stage, Task, seed_optimizer
from kd_lightning.teacher import Teacher, TeacherOutput


class DistillTask(Task):
    """Train a student with a frozen teacher.

    Args:
        network: The student.
        teacher: The teacher; it never changes.
        loss_weights: Weight of each loss term, by the term's name.
        optimizer: Makes the optimizer of the trained parameters.
        lr_scheduler: Makes the learning rate schedule; none by default.
        lr_interval: Whether the schedule moves on every ``epoch`` or every ``step``.
    """

    def __init__(
        self,
        network: Network,
        teacher: Teacher,
        loss_weights: dict[str, float],
        optimizer: OptimizerCallable = seed_optimizer,
        lr_scheduler: LRSchedulerCallable | None = None,
        lr_interval: Literal["epoch", "step"] = "epoch",
    ) -> None:
        super().__init__(network, loss_weights, optimizer, lr_scheduler, lr_interval)
        self.teacher = teacher.to(memory_format=torch.channels_last)
        self.teacher_accuracy = MulticlassAccuracy(network.num_classes, average="micro")
        self.teacher_agreement = MulticlassAccuracy(network.num_classes, average="micro")

    def ask_teacher(self, batch: Batch) -> TeacherOutput:
        """Return the teacher's outputs for the images that the student sees."""
        return self.teacher(batch.images)  # type: ignore[no-any-return]

    def log_metrics(self, outcome: Outcome, batch: Batch, stage: Stage) -> None:
        """Count the batch; on test images also how good the teacher is and how often the student agrees with it."""
        super().log_metrics(outcome, batch, stage)
        if stage == "test" and outcome.teacher_logits is not None:
            self.teacher_accuracy.update(outcome.teacher_logits, batch.labels)
            self.teacher_agreement.update(outcome.logits, outcome.teacher_logits.argmax(1))
            metrics = {"test/teacher_accuracy": self.teacher_accuracy, "test/teacher_agreement": self.teacher_agreement}
            self.log_dict(metrics, on_step=False, on_epoch=True, batch_size=len(batch.rows))

    def setup(self, stage: str) -> None:
        """Check that student, teacher and data fit."""
        super().setup(stage)
        info = self.teacher.info
        if info is None:
            return
        data = self.model_info()
        for name in ("class_names", "mean", "std", "image_size"):
            if getattr(info, name) != getattr(data, name):
                raise UserError(
                    f"the teacher {self.teacher.weights} was trained with {name} {getattr(info, name)}, but the data "
                    f"has {getattr(data, name)}; name a teacher for this data with --model.teacher.weights "
                    "(a file that does not exist yet is trained first)."
                )
