"""Training on labels alone."""

from typing import Literal

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch.nn import functional

from kd_lightning.data.loader import Batch
from kd_lightning.networks import Network
from kd_lightning.outcome import Outcome
from kd_lightning.tasks.base import Task, seed_optimizer


class Classifier(Task):
    """Train a network on the labels alone, by cross-entropy: a teacher, or a student without one.

    Args:
        network: The network to train.
        optimizer: Makes the optimizer of the trained parameters.
        lr_scheduler: Makes the learning rate schedule; none by default.
        lr_interval: Whether the schedule moves on every ``epoch`` or every ``step``.
        fast: Whether many steps are done in one call of Lightning's, on a GPU as a CUDA graph. ``auto`` does so
            wherever nothing has to see every batch.
    """

    def __init__(
        self,
        network: Network,
        optimizer: OptimizerCallable = seed_optimizer,
        lr_scheduler: LRSchedulerCallable | None = None,
        lr_interval: Literal["epoch", "step"] = "epoch",
        fast: bool | Literal["auto"] = "auto",
    ) -> None:
        super().__init__(network, {"ce_loss": 1.0}, optimizer, lr_scheduler, lr_interval, fast)

    def outcome(self, batch: Batch) -> Outcome:
        """Return the logits and their cross-entropy to the labels."""
        logits = self.network(batch.images)
        return Outcome(logits, {"ce_loss": functional.cross_entropy(logits, batch.labels)})
