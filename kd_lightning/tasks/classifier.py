"""Training on labels, without a teacher."""

from typing import Any

from kd_lightning.losses import CrossEntropy
from kd_lightning.networks import Network
from kd_lightning.tasks.task import Task


class Classifier(Task):
    """Train a network on the labels, by cross-entropy: a teacher, or a student without a teacher (baseline).

    Args:
        network: The network to train.
        label_smoothing: The share in [0, 1) of each label that is spread evenly over all classes.
        options: Further arguments, those of ``Task``.

    Raises:
        UserError: ``label_smoothing`` is out of range.
    """

    def __init__(self, network: Network, label_smoothing: float = 0.0, **options: Any) -> None:
        super().__init__(network, {"labels": CrossEntropy(label_smoothing)}, None, **options)
