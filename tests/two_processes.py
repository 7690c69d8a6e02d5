"""Fits that two processes run as one process does; as a script, they run in two, after a command that is given.

``python two_processes.py fit --config cosine.yaml ...`` runs the command, then all fits, and saves what they measured.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from task_example import deep, quick_trainer
from tiny import TinyDataModule, TinyNetwork
from torch import Tensor

from kd_lightning.cli import main
from kd_lightning.data.augment import HorizontalFlip, RandomCrop
from kd_lightning.losses import (
    CRD,
    DIST,
    PKT,
    RKD,
    SRD,
    CrossEntropy,
    FeatureRegression,
    Loss,
    SimilarityPreserving,
    SoftTargets,
)
from kd_lightning.networks import LightNN, Network
from kd_lightning.tasks import Distill
from kd_lightning.teacher import Teacher, cache, cached_rows
from kd_lightning.teacher.table import Storage
from kd_lightning.training.sync_batch_norm import SyncBatchNorm

MEASURED = Path("measured.pt")
BATCH = 16
IMAGES_AT_ONCE = 20  # the teacher's, in two processes: they share the pass
TEST_IMAGES = 10_001
PER_IMAGE = ("test/accuracy", "test/labels", "test/kd", "test/map", "test/teacher_agreement")
"""Metrics that do not depend on which images are in one batch, as losses between images do."""

Case = tuple[Network, dict[str, Loss], dict[str, Any], dict[str, Any]]


def cases() -> Iterator[tuple[str, Case]]:
    """Yield name, network, losses, and options of the data and of the trainer."""
    losses: dict[str, Loss] = {"labels": CrossEntropy(), "map": FeatureRegression("features", weight=1.0)}
    yield "flips, targets on the disk", (student(), losses, {"augment": [HorizontalFlip()]}, {})
    crop = {"augment": [RandomCrop(padding=1)], "views": 2, "val_size": 16}
    accumulated = {"plugins": [SyncBatchNorm()], "accumulate_grad_batches": 2}
    losses = {"labels": CrossEntropy(), "kd": SoftTargets()}
    yield "views, BatchNorm of all images", (normalized_student(), losses, crop, accumulated)
    losses = {"crd": CRD("classifier.1", dimensions=4, negatives=6), "dist": DIST(gather=True)}
    losses |= {"sp": SimilarityPreserving("classifier.1", weight=1.0, gather=True)}  # a thousand would show rounding
    losses |= {"pkt": PKT("classifier.1", weight=1.0, gather=True), "rkd": RKD("classifier.1", gather=True)}
    losses |= {"srd": SRD("classifier.1", gather=True)}
    losses |= {"map": FeatureRegression("features", projector="3x3 normalized", weight=1.0)}
    yield "losses between all images", (student(), losses, {}, {"plugins": [SyncBatchNorm()]})


def student() -> LightNN:
    torch.manual_seed(0)
    return LightNN(num_classes=4, image_size=8, dropout=0.0)


def normalized_student() -> TinyNetwork:
    torch.manual_seed(0)
    return TinyNetwork()


class Record(Callback):
    """Keeps the losses of the steps, in all processes together, and the rows that this process tests."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.tested: list[Tensor] = []

    def on_train_batch_end(self, trainer: Trainer, task: LightningModule, outputs: Any, *_: Any) -> None:
        self.losses.append(float(trainer.strategy.reduce(outputs["loss"].detach().clone(), reduce_op="mean")))

    def on_test_batch_end(self, trainer: Trainer, task: LightningModule, outputs: Any, batch: Any, *_: Any) -> None:
        self.tested.append(batch.rows)


def measured(processes: int) -> dict[str, dict[str, Any]]:
    """Run all fits, and return what each measured, by its name."""
    return {name: run(case, processes) for name, case in cases()}


def run(case: Case, processes: int) -> dict[str, Any]:
    network, losses, options, trainer = case
    torch.manual_seed(0)
    record, task = Record(), Distill(network, Teacher(deep()), losses)
    fitter = quick_trainer(2, devices=processes, callbacks=[record], **trainer)
    data = TinyDataModule(96, batch_size=BATCH // processes, **{"val_size": 0, **options})
    images = list[int]()
    task.teacher.register_forward_hook(lambda _, inputs, output: images.append(len(output)))
    with redirect_stdout(StringIO()):
        fitter.fit(task, datamodule=data)
        passed = sum(images)
        fitter.test(task, datamodule=TinyDataModule(TEST_IMAGES), verbose=False)
    metrics = {name: float(value) for name, value in fitter.callback_metrics.items() if name in PER_IMAGE}
    return {"losses": record.losses, "metrics": metrics, "tested": torch.cat(record.tested), "passed": passed}


def script() -> None:
    """Run the command of the arguments, then the fits, in each of two processes."""
    assert main(sys.argv[1:]) == 0
    cached_rows.IMAGES_AT_ONCE = IMAGES_AT_ONCE
    cache.choose_storage = lambda *_: Storage.DISK  # type: ignore[attr-defined]
    torch.save(measured(processes=2), f"{os.environ['LOCAL_RANK']}-{MEASURED}")


if __name__ == "__main__":
    script()
