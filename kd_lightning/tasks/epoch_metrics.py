"""The metrics of an epoch: the loss, its terms and accuracies; all of them must be finite."""

from collections.abc import Iterable
from typing import Literal

from lightning.pytorch import LightningModule
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from kd_lightning.networks import Network
from kd_lightning.tasks.finite import LossWatch, check_mean, check_weights
from kd_lightning.tasks.image_mean import ImageMean
from kd_lightning.tasks.step_output import LabelledOutput, StepOutput

Stage = Literal["train", "val", "test"]


class MetricsModule(LightningModule):
    """Collect losses and accuracies in metrics and log them once per epoch.

    Args:
        network: The network whose predictions are measured.
        names: Names of the losses.
    """

    def __init__(self, network: Network, names: Iterable[str]) -> None:
        super().__init__()
        self.network = network
        self.loss_names = (*names, "loss")
        self.train_metrics, self.val_metrics, self.test_metrics = map(self.make_metrics, ("train", "val", "test"))
        self._loss_watch: LossWatch | None = None

    def make_metrics(self, stage: str) -> MetricCollection:
        """Create the metrics of a stage: the loss, its terms, and each name of ``accuracies``."""
        accuracy = MulticlassAccuracy(self.network.num_classes, average="micro", validate_args=False)
        means = {f"{stage}/{name}": ImageMean() for name in self.loss_names}
        counts = {f"{stage}/{name}": accuracy.clone() for name in self.accuracies(stage)}
        return MetricCollection({**means, **counts}, compute_groups=False)

    def accuracies(self, stage: str) -> tuple[str, ...]:
        """Return the names of the accuracies that ``update_accuracies`` updates in a stage."""
        return ("accuracy",)

    def metrics(self, stage: Stage) -> MetricCollection:
        """Return the metrics of a stage."""
        metrics: MetricCollection = getattr(self, f"{stage}_metrics")
        return metrics

    def update_metrics(self, labelled: LabelledOutput, stage: Stage) -> None:
        """Update the metrics of an epoch with a detached output."""
        losses = {**labelled.output.losses, "loss": labelled.loss}
        for name, value in losses.items():
            self.metrics(stage)[f"{stage}/{name}"].update(value, len(labelled.labels))
        if stage == "train" and self._loss_watch is not None:
            self._loss_watch.note(losses)
        self.update_accuracies(labelled.output, labelled.labels, stage)

    def update_accuracies(self, output: StepOutput, labels: Tensor, stage: Stage) -> None:
        """Update the accuracies of a stage; labels are (B,) or, as probabilities, (B, num_classes)."""
        self.metrics(stage)[f"{stage}/accuracy"].update(output.logits, labels.argmax(1) if labels.ndim == 2 else labels)

    def check_finite(self) -> None:
        """Check all losses and weights.

        Raises:
            UserError: One is not finite.
        """
        self._check_losses()
        check_weights(self.trainer, self)

    def _check_losses(self) -> None:
        if self._loss_watch is not None:
            self._loss_watch.check()

    def log_metrics(self, stage: Stage) -> None:
        """Log the metrics of an epoch once: logging in every step would cost more than LightNN's optimizer."""
        for name in self.loss_names:
            check_mean(self.trainer, f"{stage}/{name}", self.metrics(stage)[f"{stage}/{name}"])
        for name, metric in self.metrics(stage).items():
            self.log(name, metric, prog_bar=name == f"{stage}/accuracy")

    def on_train_epoch_end(self) -> None:
        """Log the training epoch, after a check of all its losses."""
        self._check_losses()
        self.log_metrics("train")

    def on_validation_start(self) -> None:
        """Check the losses of training before checkpoints are chosen."""
        self._check_losses()

    def on_validation_epoch_end(self) -> None:
        """Log the validation metrics."""
        self.log_metrics("val")

    def on_test_epoch_end(self) -> None:
        """Log the test metrics."""
        self.log_metrics("test")
