"""How good the student alone is on the test images of a run, for the summary."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from kd_lightning.data.loader import Batch
from kd_lightning.networks.weights import load_model
from kd_lightning.tasks import Task
from kd_lightning.teacher import Teacher

ACCURACY = "test/alone_accuracy"


class MeasureAlone(Callback):
    """Measure the student alone on a run's test images, as ``test/alone_accuracy``.

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
