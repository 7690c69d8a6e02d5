"""Measure the student without a teacher (baseline) on a run's test images, for the summary."""

from typing import TYPE_CHECKING, Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer

from kd_lightning.data.loader import Batch
from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.networks.weights import load_model
from kd_lightning.teacher import Teacher
from kd_lightning.wording import epochs_in_words

if TYPE_CHECKING:
    from kd_lightning.tasks import Task

ACCURACY = "test/baseline_accuracy"


class MeasureBaseline(Callback):
    """Measure the student without a teacher (baseline) on a run's test images, as ``test/baseline_accuracy``.

    Args:
        weights: Its weights file.

    Attributes:
        network: The network, frozen; its file gives the normalization and size of its images.
    """

    def __init__(self, weights: str) -> None:
        self.network = Teacher(load_model(weights)[0], weights)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Move the network to the device of the images."""
        task = cast("Task", pl_module)
        self.network.to(task.device)
        self.network.adapt(task.data)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Log the share of correct predictions."""
        assert isinstance(batch, Batch)
        correct = self.network(batch.images.float()).argmax(1) == batch.labels
        pl_module.log(
            ACCURACY, correct.float().mean(), batch_size=len(correct), on_step=False, on_epoch=True, sync_dist=True
        )


def no_gain_reason(own: ModelInfo, baseline: ModelInfo) -> str:
    """Return a clause that explains why the accuracy gain over the baseline has no meaning; empty where it has one.

    Args:
        own: What the run has trained, on what, and how long.
        baseline: The model info of the student without a teacher.
    """
    if (own.network, own.arguments) != (baseline.network, baseline.arguments):
        networks = f"{_network(baseline, own)}, and this run's network {_network(own, baseline)}"
        return f"the student without a teacher is {networks}"
    if (own.data, own.class_names, own.image_size) != (baseline.data, baseline.class_names, baseline.image_size):
        return f"the student without a teacher was trained on other data, {baseline.data}"
    if (own.epochs, own.limits) != (baseline.epochs, baseline.limits):
        return f"the student without a teacher was trained for {_length(baseline)}, and this run for {_length(own)}"
    return ""


def _network(info: ModelInfo, other: ModelInfo) -> str:
    """Name a network by its class, or by the arguments that another one of that class does not have."""
    name = info.network.rpartition(".")[2]
    own = dict(info.arguments.items() - other.arguments.items())
    return f"{name}({', '.join(f'{key}={own[key]}' for key in sorted(own))})" if info.network == other.network else name


def _length(info: ModelInfo) -> str:
    return "an unknown time" if info.epochs is None else epochs_in_words(info.epochs, info.limits)
