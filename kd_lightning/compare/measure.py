"""Measures of a run for a comparison, taken while Lightning runs it."""

import math
import platform
import time
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from torchmetrics.functional.classification import multiclass_calibration_error

from kd_lightning.compare.results import Curves, Run
from kd_lightning.data.loader import Batch
from kd_lightning.machine.cpu import cpu_name
from kd_lightning.networks import Network
from kd_lightning.networks.fusable import fused
from kd_lightning.sources import library_version, package_version
from kd_lightning.tasks import Task
from kd_lightning.tasks.step import Step

CURVES = {  # the first of these names that a task logs: the cross-entropy can be compared between objectives
    "train_loss": ("train/labels", "train/loss"),
    "train_accuracy": ("train/accuracy",),
    "val_loss": ("val/labels", "val/loss"),
    "val_accuracy": ("val/accuracy",),
}


MEASURED = "measured_by_study"
"""The key of a run's measures in its checkpoints."""


class Measure(Callback):
    """Measures a run on one device: curves and time while it trains, then the test images."""

    def __init__(self) -> None:
        self._curves: list[dict[str, float]] = []
        self._batches: list[tuple[Tensor, Tensor, Tensor | None]] = []
        self._seconds = 0.0
        self._measured: dict[str, Any] = {"made_by": package_version()}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the metrics of the previous epoch, unless they came from a checkpoint."""
        if trainer.current_epoch > len(self._curves):
            self._curves.append(self._logged(trainer))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock and note the last epoch."""
        self._seconds += time.monotonic() - self._started
        if trainer.callback_metrics:
            self._curves.append(self._logged(trainer))

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep what was measured up to the end of this epoch."""
        seconds = self._seconds + time.monotonic() - self._started
        checkpoint[MEASURED] = {"curves": [*self._curves, self._logged(trainer)], "seconds": seconds}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Go on with what an interrupted run has measured."""
        self._curves, self._seconds = list(checkpoint[MEASURED]["curves"]), checkpoint[MEASURED]["seconds"]

    def _logged(self, trainer: Trainer) -> dict[str, float]:
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        found = {
            curve: next((logged[name] for name in names if name in logged), None) for curve, names in CURVES.items()
        }
        return {curve: value for curve, value in found.items() if value is not None}

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count parameters and multiply-adds."""
        assert isinstance(pl_module, Task)
        network = fused(pl_module.network)
        self._measured["made_on"] = made_on(pl_module.device)
        self._measured["parameters"] = sum(values.numel() for values in network.parameters())
        self._measured["multiply_adds"] = multiply_adds(network)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the logits, in the order of the test split."""
        assert isinstance(outputs, Step)
        assert isinstance(batch, Batch)
        teacher = None if outputs.teacher_logits is None else outputs.teacher_logits.argmax(1).cpu()
        self._batches.append((outputs.logits.float().cpu(), batch.labels.cpu(), teacher))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compute the measures over all test images."""
        logits, labels = (torch.cat([batch[index] for batch in self._batches]) for index in (0, 1))  # type: ignore[misc]
        taught = [batch[2] for batch in self._batches if batch[2] is not None]
        teacher = torch.cat(taught) if taught else None
        predicted, count = logits.argmax(1), logits.shape[1]
        self._measured |= {
            "test_loss": float(functional.cross_entropy(logits.double(), labels)),
            "calibration_error": float(multiclass_calibration_error(logits.softmax(1), labels, count)),
            "teacher_agreement": None if teacher is None else float((teacher == predicted).double().mean()),
            "teacher_accuracy": None if teacher is None else float((teacher == labels).double().mean()),
            "labels": labels.numpy(),
            "predicted": predicted.numpy(),
            "class_count": count,
        }
        self._batches.clear()

    def take_validation(self, trainer: Trainer, class_count: int) -> None:
        """Take what ``validate`` has measured as the last epoch's, in place of all measures over test images."""
        self._curves[-1] |= self._logged(trainer)
        self._measured["made_on"] = made_on(trainer.strategy.root_device)
        nothing = np.zeros(0, np.int64)
        self._measured |= {"labels": nothing, "predicted": nothing, "class_count": class_count}
        self._measured |= {"test_loss": math.nan, "calibration_error": math.nan, "parameters": 0, "multiply_adds": 0}

    def run(self, seed: int) -> Run:
        """Return the results."""
        epochs = tuple(range(1, len(self._curves) + 1))
        names = {name for epoch in self._curves for name in epoch}
        curves = {name: tuple(epoch.get(name, float("nan")) for epoch in self._curves) for name in names}
        taken = Curves(epochs, **curves)
        return Run(seed=seed, training_seconds=self._seconds, curves=taken, **self._measured)


def made_on(device: torch.device) -> dict[str, str]:
    """Return what a run's last digits depend on besides its config, and its host."""
    cpu = f"{cpu_name()} ({torch.backends.cpu.get_cpu_capability()})"
    used = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu
    libraries = {name: library_version(name) for name in ("torch", "lightning")}
    return {"host": platform.node(), "device": used, "threads": str(torch.get_num_threads()), **libraries}


def multiply_adds(network: Network) -> int:
    """Return the multiply-adds of one image's forward."""
    device = next(network.parameters()).device
    image = torch.zeros(1, network.in_channels, network.image_size, network.image_size, device=device)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(image)
    return int(counter.get_total_flops()) // 2
