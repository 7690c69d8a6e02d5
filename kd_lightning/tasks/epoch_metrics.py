"""The metrics of an epoch: the loss, its terms and accuracies."""

from collections.abc import Callable, Iterable
from typing import Literal

from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from kd_lightning.tasks.image_mean import ImageMean
from kd_lightning.tasks.step import Step

Stage = Literal["train", "val", "test"]

OF_TEACHER = ("teacher_accuracy", "teacher_agreement")
"""Metrics of a teacher."""


class EpochMetrics(nn.Module):
    """Collect the losses and accuracies of an epoch, separately for training, validation and test.

    Args:
        losses: Names of the losses.
        num_classes: Number of classes.
        with_teacher: Whether a teacher's accuracy, and how often the network agrees with it, are measured in a test.

    Attributes:
        loss_names: Names of the losses, and ``loss`` for their weighted sum.
        paused: Whether steps are not added now, as in a second pass over a batch.
        note: Called with the losses of every training step; ``None`` calls nothing.
    """

    def __init__(self, losses: Iterable[str], num_classes: int, with_teacher: bool) -> None:
        super().__init__()
        self.loss_names = (*losses, "loss")
        self.paused = False
        self.note: Callable[[dict[str, Tensor]], None] | None = None
        accuracy = MulticlassAccuracy(num_classes, average="micro", validate_args=False)
        of_teacher = OF_TEACHER if with_teacher else ()
        for stage, more in (("train", ()), ("val", ()), ("test", of_teacher)):
            means = {f"{stage}/{name}": ImageMean() for name in self.loss_names}
            counts = {f"{stage}/{name}": accuracy.clone() for name in ("accuracy", *more)}
            self.add_module(f"of_{stage}", MetricCollection({**means, **counts}, compute_groups=False))

    def of(self, stage: Stage) -> MetricCollection:
        """Return the metrics of a stage by their logged names."""
        metrics: MetricCollection = getattr(self, f"of_{stage}")
        return metrics

    def reset(self) -> None:
        """Forget what a run that was stopped may have left."""
        for metrics in self.children():
            metrics.reset()  # type: ignore[operator]

    def add(self, stage: Stage, step: Step) -> Step:
        """Add a step, and return it."""
        if self.paused:
            return step
        logits, loss, losses, labels, teacher_logits = step.map(Tensor.detach)
        metrics = self.of(stage)
        losses = {**losses, "loss": loss} if len(losses) + 1 == len(self.loss_names) else losses
        images = len(labels) or loss.numel()  # batches without a label count alike
        for name, value in losses.items():
            metrics[f"{stage}/{name}"].update(value, images)
        if stage == "train" and self.note is not None:
            self.note(losses)
        if not len(labels):
            return step
        classes = labels.argmax(1) if labels.ndim == 2 else labels
        metrics[f"{stage}/accuracy"].update(logits, classes)
        if teacher_logits is not None and f"{stage}/teacher_accuracy" in metrics:
            metrics[f"{stage}/teacher_accuracy"].update(teacher_logits, classes)
            metrics[f"{stage}/teacher_agreement"].update(logits, teacher_logits.argmax(1))
        return step

    def log(self, stage: Stage, task: LightningModule) -> None:
        """Log the metrics of an epoch once: logging in every step would cost more than LightNN's optimizer.

        What no step knew, as accuracy without labels or a loss without a teacher's outputs, is left out.
        """
        for name, metric in self.of(stage).items():
            if metric.update_called:
                task.log(name, metric, prog_bar=name == f"{stage}/accuracy")
        if stage == "train":  # on_step would cost a synchronization with the GPU in every step
            task.log("learning_rate", float(task.trainer.optimizers[0].param_groups[0]["lr"]), sync_dist=True)
