"""Weights as one small file."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from kd_lightning.callbacks.run_folder import run_folder
from kd_lightning.files import plain_name
from kd_lightning.networks.weights import save_weights
from kd_lightning.tasks import Task
from kd_lightning.tasks.trained import is_tested_whole, is_untrained, training_record


class SaveWeights(Callback):
    """Write the trained network's weights when training ends, and again with its accuracy when it has been tested.

    The file holds what prediction needs (network, class names, normalization, image size) beside the weights, in
    tensors and plain values only.

    Args:
        filename: Name of the file in the run's folder; it ends in ``.pth``.

    Raises:
        UserError: The name is none.
    """

    works_with_fast_path = True

    def __init__(self, filename: str = "weights.pth") -> None:
        self.filename = plain_name(filename, ".pth", "SaveWeights.filename")
        self.files: list[Path] = []
        self._record: dict[str, Any] = {}

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the weights of the last epoch; an untrained network's are worth nothing, and are not written."""
        folder = run_folder(trainer)
        if folder is None or is_untrained(trainer):
            return
        self.files = [folder / self.filename]
        self._record = training_record(trainer)
        self._save(trainer, pl_module, None)
        trainer.strategy.barrier()  # other processes may read it next

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the file of this process's own fit again, with the test accuracy."""
        if self.files:
            accuracy = float(trainer.callback_metrics["test/accuracy"]) if is_tested_whole(trainer) else None
            self._save(trainer, pl_module, accuracy)
            trainer.strategy.barrier()

    def _save(self, trainer: Trainer, task: LightningModule, accuracy: float | None) -> None:
        assert isinstance(task, Task)
        if trainer.is_global_zero:
            info = replace(task.model_info(), accuracy=accuracy, **self._record)
            save_weights(self.files[0], task.plain_network(), info)
