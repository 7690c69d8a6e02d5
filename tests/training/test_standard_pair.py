"""The standard pair of papers on distillation: its two commands, and the losses of their first batches."""

import json
import math
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cifar_files import write_cifar100
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from kd_lightning.callbacks.trainer_callbacks import callbacks_of
from kd_lightning.data.loader import Batch
from kd_lightning.networks import Network
from kd_lightning.networks.weights import load_model
from kd_lightning.tasks import Task
from kd_lightning.training.cli import run

SMALL = (
    *("--trainer.limit_train_batches=1", "--trainer.max_epochs=1", "--trainer.limit_test_batches=1"),
    *("--trainer.accelerator=cpu", "--trainer.enable_checkpointing=false", "--trainer.enable_progress_bar=false"),
    *("--data.batch_size=3", "--files.onnx=null", "--trainer.callbacks=[test_standard_pair.FirstBatch]"),
)
Rows = Sequence[Sequence[float]]


class FirstBatch(Callback):
    """Keeps the batch, the network in front of its step, and the optimizer's settings."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        assert isinstance(pl_module, Task)
        self.batch = batch
        self.network: Network = deepcopy(pl_module.network)
        self.settings = dict(trainer.optimizers[0].param_groups[0])
        self.schedule: Any = trainer.lr_scheduler_configs[0].scheduler


def fit(config: str) -> tuple[Any, dict[str, float]]:
    """Run a config's command, and return what its first batch was, and the means of its only one."""
    command = run(["fit", f"--config={config}", *SMALL])
    callbacks = callbacks_of(command.trainer, Callback)
    seen = next(callback for callback in callbacks if type(callback).__name__ == "FirstBatch")
    summary = json.loads(Path(f"lightning_logs/{config.removesuffix('.yaml')}/version_0/summary.json").read_text())
    return seen, summary["metrics"]


def numbers(logits: Tensor) -> Rows:
    rows: Rows = logits.detach().double().tolist()
    return rows


def logarithms(logits: Sequence[float], temperature: float = 1.0) -> list[float]:
    """Return the logarithms of the probabilities of one image."""
    scaled = [value / temperature for value in logits]
    total = math.log(sum(math.exp(value) for value in scaled))
    return [value - total for value in scaled]


def cross_entropy(logits: Rows, labels: Sequence[int]) -> float:
    """Return the mean of -log p(label)."""
    return -sum(logarithms(row)[label] for row, label in zip(logits, labels, strict=True)) / len(labels)


def divergence(student: Rows, teacher: Rows) -> float:
    """Return 16 times the mean divergence from the teacher's probabilities, both at the temperature 4."""
    total = 0.0
    for own_row, other_row in zip(student, teacher, strict=True):
        for own, other in zip(logarithms(own_row, 4.0), logarithms(other_row, 4.0), strict=True):
            total += math.exp(other) * (other - own)
    return 16 * total / len(student)


def test_the_first_batches_of_the_standard_pair_have_the_losses_that_papers_define(
    temp_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = write_cifar100(Path("data"), monkeypatch, train=6, test=2)["train"]
    seen, means = fit("cifar100_resnet32x4.yaml")
    expected = cross_entropy(numbers(seen.network(seen.batch.images)), seen.batch.labels.tolist())
    assert means["train/labels"] == means["train/loss"] == pytest.approx(expected, rel=1e-5)

    seen, means = fit("cifar100_resnet8x4_kd.yaml")
    teacher, _ = load_model("lightning_logs/cifar100_resnet32x4/version_0/resnet32x4.pth")
    assert sum(values.numel() for values in teacher.parameters()) == 7_433_860
    assert sum(values.numel() for values in seen.network.parameters()) == 1_233_540
    batch, own = seen.batch, numbers(seen.network(seen.batch.images))
    with torch.no_grad():
        other = numbers(teacher.eval()(batch.images))
    assert batch.labels.tolist() == [labels[row] for row in batch.rows.tolist()]
    assert means["train/labels"] == pytest.approx(cross_entropy(own, batch.labels.tolist()), rel=1e-5)
    assert means["train/kd"] == pytest.approx(divergence(own, other), rel=1e-4)
    assert means["train/loss"] == pytest.approx(0.1 * means["train/labels"] + 0.9 * means["train/kd"], rel=1e-5)

    mean, std = (np.array(values)[:, None, None] for values in ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)))
    pixels = (batch.images.numpy() * std + mean) * 255
    assert np.abs(pixels - pixels.round()).max() < 1e-3
    settings = {name: seen.settings[name] for name in ("lr", "momentum", "weight_decay", "nesterov", "dampening")}
    assert settings == {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": False, "dampening": 0}
    assert (sorted(seen.schedule.milestones), seen.schedule.gamma) == ([150, 180, 210], 0.1)
