"""Test and validate a weights file as if it were a checkpoint."""

from pathlib import Path
from typing import TYPE_CHECKING, cast

from lightning.pytorch import Callback, LightningModule, Trainer

from kd_lightning.data.compatibility import check_data
from kd_lightning.errors import UserError
from kd_lightning.networks.fusable import fuse
from kd_lightning.networks.weights import load_weights

if TYPE_CHECKING:
    from kd_lightning.tasks import Task


class MeasuredWeights(Callback):
    """Load a weight file into the task's network before it is tested or validated.

    Args:
        path: A ``.pth`` with only the network.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Load the weights, if they are all that the task measures and were trained on this data.

        Raises:
            UserError: They are not.
        """
        task = cast("Task", pl_module)
        beside = next((key for key in task.state_dict() if not key.startswith("network.")), None)
        if beside is not None:
            raise UserError(
                f"{self.path} holds only the network, but {type(task).__name__} also measures the trained "
                f"parameters of its losses ({beside}); give "
                "--ckpt_path a checkpoint of its run (last or best), or measure the network with --model Classifier."
            )
        check_data(self.path, load_weights(fuse(task.network), self.path), task.data)
