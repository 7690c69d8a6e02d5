"""Training on labels alone."""

from typing import Any

from torch.nn import functional

from kd_lightning.data.loader import Batch
from kd_lightning.networks import Network
from kd_lightning.outcome import Outcome
from kd_lightning.tasks.base import Task


class Classifier(Task):
    """Train a network on the labels alone, by cross-entropy: a teacher, or a student without one.

    Args:
        network: The network to train.
        options: Further arguments, those of ``Task``.
    """

    works_with_fast_path = True

    def __init__(self, network: Network, **options: Any) -> None:
        super().__init__(network, {"ce_loss": 1.0}, **options)

    def outcome(self, batch: Batch) -> Outcome:
        """Return the logits and their cross-entropy to the labels."""
        logits = self.network(batch.images)
        return Outcome(logits, {"ce_loss": functional.cross_entropy(logits, batch.labels)})
