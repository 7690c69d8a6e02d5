"""Weights as one small file."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer

from kd_lightning.callbacks.averages import end_training
from kd_lightning.callbacks.keep_checkpoint import KeepCheckpoint
from kd_lightning.callbacks.run_folder import run_folder
from kd_lightning.callbacks.trained import is_tested_whole, is_untrained, training_record
from kd_lightning.callbacks.trainer_callbacks import callbacks_of
from kd_lightning.files import plain_name
from kd_lightning.networks.fusable import fused
from kd_lightning.networks.read_back import ReadBackError, check_before_training, check_weights
from kd_lightning.networks.weights import ENDINGS, read_weights, save_weights

if TYPE_CHECKING:
    from kd_lightning.tasks import Task

IMAGES = 8
"""Test images on which a file is compared with the trained network."""


class SaveWeights(Callback):
    """Write the trained network's weights when training ends, and again with its accuracy when it has been tested.

    The file holds the weights and what prediction needs (network, class names, normalization, image size), all as
    tensors and plain values.

    Args:
        filename: Name of the file in the run's folder; it ends in ``.pth`` or ``.safetensors``.

    Raises:
        UserError: ``filename`` is not a plain file name.
    """

    def __init__(self, filename: str = "weights.pth") -> None:
        self.filename = plain_name(filename, ENDINGS, "SaveWeights.filename")
        self.files: list[Path] = []
        self._record: dict[str, Any] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a network that its own weights do not reproduce, before it is trained.

        Raises:
            UserError: Read back from its weights, it gives other logits.
        """
        task = cast("Task", pl_module)
        check_before_training(task.network, task.model_info(), self.filename)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the weights of the last epoch; skip an untrained network.

        Raises:
            ReadBackError: They do not give the trained network's logits, so there is no file.
        """
        task = cast("Task", pl_module)
        folder = run_folder(trainer)
        if folder is None or is_untrained(trainer):
            return
        end_training(trainer)
        self._record = training_record(trainer)
        self._save(trainer, task, folder / self.filename, None)
        self.files = [folder / self.filename]

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the file of this process's fit again, with the test accuracy."""
        task = cast("Task", pl_module)
        for path in self.files:
            accuracy = float(trainer.callback_metrics["test/accuracy"]) if is_tested_whole(trainer) else None
            self._save(trainer, task, path, accuracy)

    def _save(self, trainer: Trainer, task: "Task", path: Path, accuracy: float | None) -> None:
        """Write the file in the first process; the others, which may read it next, wait."""
        error: ReadBackError | None = None
        if trainer.is_global_zero:
            info = replace(task.model_info(), accuracy=accuracy, **self._record)
            try:
                save_weights(path, fused(task.network), info, partial(_check, task, path))
            except ReadBackError as caught:
                error = caught
                path.unlink(missing_ok=True)
                _refuse_checkpoints(trainer, str(caught))
        failed = trainer.strategy.broadcast(None if error is None else str(error))
        if failed is not None:
            raise error or ReadBackError(failed)


def _refuse_checkpoints(trainer: Trainer, reason: str) -> None:
    for callback in callbacks_of(trainer, KeepCheckpoint):
        callback.refuse(reason)


def _check(task: "Task", path: Path, written: Path) -> None:
    """Compare the trained network with the file, on some test images."""
    data = task.data
    state_dict, info = read_weights(written)
    assert info is not None
    images = data.normalization.apply(data.split("test").images[:IMAGES].permute(0, 3, 1, 2))
    check_weights(task.network, state_dict, info, images.to(next(task.network.parameters())), path)
