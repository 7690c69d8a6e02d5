"""What a task counts of an epoch: the loss, its terms and accuracies; none of them may be other than finite."""

from collections.abc import Iterable
from typing import Literal

from lightning.pytorch import LightningModule
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from kd_lightning.networks import Network
from kd_lightning.tasks.finite import LossWatch, check_mean, check_weights
from kd_lightning.tasks.image_mean import ImageMean
from kd_lightning.tasks.outcome import Outcome, Result

Stage = Literal["train", "val", "test"]


class CountingModule(LightningModule):
    """Count losses and accuracies in metrics and log them once an epoch.

    Args:
        network: The network whose predictions are counted.
        names: Names of the losses.
    """

    def __init__(self, network: Network, names: Iterable[str]) -> None:
        super().__init__()
        self.network = network
        self.counted = (*names, "loss")
        self.train_metrics, self.val_metrics, self.test_metrics = map(self.make_metrics, ("train", "val", "test"))
        self._loss_watch: LossWatch | None = None

    def make_metrics(self, stage: str) -> MetricCollection:
        """Make the metrics of an epoch of a stage: the loss, its terms, and each name of ``accuracies``."""
        accuracy = MulticlassAccuracy(self.network.num_classes, average="micro", validate_args=False)
        means = {name: ImageMean() for name in self.counted}
        counts = {name: accuracy.clone() for name in self.accuracies(stage)}
        return MetricCollection({**means, **counts}, prefix=f"{stage}/", compute_groups=False)

    def accuracies(self, stage: str) -> tuple[str, ...]:
        """Return the names of the accuracies that ``count`` counts in a stage."""
        return ("accuracy",)

    def metrics(self, stage: Stage) -> MetricCollection:
        """Return the metrics of a stage."""
        metrics: MetricCollection = getattr(self, f"{stage}_metrics")
        return metrics

    def record(self, result: Result, stage: Stage) -> None:
        """Count a detached result in the metrics of the epoch."""
        losses = {**result.outcome.terms, "loss": result.loss}
        for name, value in losses.items():
            self.metrics(stage)[name].update(value, len(result.labels))
        if stage == "train" and self._loss_watch is not None:
            self._loss_watch.see(losses)
        self.count(result.outcome, result.labels, stage)

    def count(self, outcome: Outcome, labels: Tensor, stage: Stage) -> None:
        """Count predictions in the stage's metrics; labels are (B,) or, as probabilities, (B, num_classes)."""
        self.metrics(stage)["accuracy"].update(outcome.logits, labels.argmax(1) if labels.ndim == 2 else labels)

    def check_finite(self) -> None:
        """Look at all losses and weights.

        Raises:
            UserError: One is not finite.
        """
        self._look()
        check_weights(self.trainer, self)

    def _look(self) -> None:
        if self._loss_watch is not None:
            self._loss_watch.look()

    def log_metrics(self, stage: Stage) -> None:
        """Log what an epoch has counted, once: logging in every step would cost more than LightNN's optimizer."""
        for name in self.counted:
            check_mean(self.trainer, f"{stage}/{name}", self.metrics(stage)[name])
        for name, metric in self.metrics(stage).items():
            self.log(name, metric, prog_bar=name == f"{stage}/accuracy")

    def on_train_epoch_end(self) -> None:
        """Log the training epoch, behind a look at all of its losses."""
        self._look()
        self.log_metrics("train")

    def on_validation_start(self) -> None:
        """Look at the losses of training before checkpoints are chosen."""
        self._look()

    def on_validation_epoch_end(self) -> None:
        """Log the validation images' epoch."""
        self.log_metrics("val")

    def on_test_epoch_end(self) -> None:
        """Log the test images' epoch."""
        self.log_metrics("test")
