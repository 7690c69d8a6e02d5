"""Networks, a batch and a trainer for tests of tasks."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from kd_lightning.data.loader import Batch
from kd_lightning.networks import DeepNN, LightNN


def light() -> LightNN:
    return LightNN(num_classes=4, image_size=8)


def deep() -> DeepNN:
    return DeepNN(num_classes=4, image_size=8)


def make_batch() -> Batch:
    return Batch(torch.randn(6, 3, 8, 8), torch.arange(6) % 4, torch.arange(6))


QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
}
"""Options of a trainer that writes no files and prints little."""


def quick_trainer(epochs: int = 1, **options: Any) -> Trainer:
    return Trainer(**{**QUIET, "max_epochs": epochs, **options})


class SaveAt(Callback):
    """Saves a checkpoint after a step."""

    works_with_fast_path = True

    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == self.step and not self.path.exists():
            trainer.save_checkpoint(self.path)
