"""How good the student alone is on the test images of a run, for the summary, and whether the two compare."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from kd_lightning.data.loader import Batch
from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.networks.weights import load_model
from kd_lightning.tasks import Task
from kd_lightning.teacher import Teacher
from kd_lightning.wording import epochs_in_words

ACCURACY = "test/baseline_accuracy"


class MeasureBaseline(Callback):
    """Measure the student alone on a run's test images, as ``test/baseline_accuracy``.

    Args:
        weights: Its file.

    Attributes:
        network: The network, frozen; it sees images as its file says.
    """

    works_with_fast_path = True

    def __init__(self, weights: str) -> None:
        self.network = Teacher(load_model(weights)[0], weights)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Bring the network to where the images are."""
        assert isinstance(pl_module, Task)
        self.network.to(pl_module.device)
        self.network.adapt(pl_module.data)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count what it gets right."""
        assert isinstance(batch, Batch)
        correct = self.network(batch.images.float()).argmax(1) == batch.labels
        pl_module.log(
            ACCURACY, correct.float().mean(), batch_size=len(correct), on_step=False, on_epoch=True, sync_dist=True
        )


def no_gain_reason(own: ModelInfo, alone: ModelInfo) -> str:
    """Say in a clause why a run's accuracy over that of the student alone says nothing; nothing where it says the gain.

    Args:
        own: What the run has trained, on what, and how long.
        alone: What the file of the student alone says.
    """
    if (own.network, own.arguments) != (alone.network, alone.arguments):
        return f"the student alone is {_network(alone, own)}, and this run's network {_network(own, alone)}"
    if (own.data, own.class_names, own.image_size) != (alone.data, alone.class_names, alone.image_size):
        return f"the student alone was trained on other data, {alone.data}"
    if (own.epochs, own.limits) != (alone.epochs, alone.limits):
        return f"the student alone was trained for {_length(alone)}, and this run for {_length(own)}"
    return ""


def _network(info: ModelInfo, other: ModelInfo) -> str:
    """Name a network by its class, or by the arguments that another one of that class does not have."""
    name = info.network.rpartition(".")[2]
    own = dict(info.arguments.items() - other.arguments.items())
    return f"{name}({', '.join(f'{key}={own[key]}' for key in sorted(own))})" if info.network == other.network else name


def _length(info: ModelInfo) -> str:
    return "an unknown time" if info.epochs is None else epochs_in_words(info.epochs, info.limits)
