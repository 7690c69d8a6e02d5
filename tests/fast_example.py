"""Tasks that are trained on the plain and on the fast path, and what Lightning has counted of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.cli import ReduceLROnPlateau
from tiny import TinyDataModule, TinyNetwork
from torch import nn
from torch.optim import Adam

from kd_lightning.data.augment import CutMix, HorizontalFlip, RandomCrop
from kd_lightning.networks import DeepNN, LightNN
from kd_lightning.schedules import OneCycle
from kd_lightning.tasks import Classifier, CosineDistill, Task
from kd_lightning.teacher import Teacher

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


def light() -> LightNN:
    return LightNN(num_classes=4, image_size=8)


def classifier(fast: bool | Literal["auto"], **options: Any) -> Classifier:
    return Classifier(light(), **{"optimizer": lambda p: Adam(p, lr=2**-7, fused=True), "fast": fast, **options})


def train(
    make: Callable[[bool], Task],
    fast: bool,
    data: dict[str, Any] | None = None,
    ckpt: Path | None = None,
    source: type[TinyDataModule] = TinyDataModule,
    **options: Any,
) -> tuple[Trainer, Task]:
    seed_everything(0)
    task = make(fast)
    settings = {
        "max_epochs": 2,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        **options,
    }
    trainer = Trainer(**settings)
    trainer.fit(task, datamodule=source(**{"count": 330, "batch_size": 16, **(data or {})}), ckpt_path=ckpt)
    return trainer, task


def books(trainer: Trainer) -> dict[str, Any]:
    """Return everything that Lightning counts."""
    loop = trainer.fit_loop.epoch_loop
    return {"step": trainer.global_step, "logged": loop._batches_that_stepped, "loops": trainer.fit_loop.state_dict()}


def assert_same(plain: tuple[Trainer, Task], fast: tuple[Trainer, Task], exact: bool = True) -> None:
    assert books(plain[0]) == books(fast[0])
    tolerance = 0.0 if exact else 2e-5
    for name, values in plain[1].state_dict().items():
        assert torch.allclose(values.cpu(), fast[1].state_dict()[name].cpu(), rtol=0, atol=tolerance), name
    logged, expected = fast[0].callback_metrics, plain[0].callback_metrics
    assert logged.keys() == expected.keys()
    for name, value in expected.items():
        assert float(logged[name]) == pytest.approx(float(value), abs=1e-5 if exact else 1e-3), name


class Calls(Callback):
    """Counts the batches that Lightning sees."""

    works_with_fast_path = True

    def __init__(self) -> None:
        self.batches: list[int] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.batches.append(batch_idx)


def cosine(fast: bool, **options: Any) -> CosineDistill:
    torch.manual_seed(1)
    teacher = Teacher(DeepNN(num_classes=4, image_size=8))
    options = {"optimizer": lambda p: Adam(p, lr=2**-7, fused=True), **options}
    return CosineDistill(light(), teacher, fast=fast, **options)


def one_cycle(fast: bool) -> Classifier:
    return classifier(fast, lr_scheduler=OneCycle, lr_interval="step")


def plateau(fast: bool) -> Classifier:
    return classifier(fast, lr_scheduler=lambda o: ReduceLROnPlateau(o, monitor="val/loss", patience=0, threshold=1.0))


class Assigns(OneCycle):
    """A schedule that puts a number where torch's own ones fill what is there."""

    def step(self, epoch: int | None = None) -> None:
        super().step(epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = float(group["lr"])


CASES: dict[str, tuple[Callable[[bool], Task], dict[str, Any], dict[str, Any]]] = {
    "plain": (classifier, {}, {}),
    "batch normalization": (lambda fast: Classifier(TinyNetwork(), fast=fast), {}, {}),
    "one cycle": (one_cycle, {}, {}),
    "a schedule of a user's own": (lambda fast: classifier(fast, lr_scheduler=Assigns, lr_interval="step"), {}, {}),
    "a schedule of epochs": (plateau, {}, {}),
    "clipping by norm": (classifier, {}, {"gradient_clip_val": 0.01}),
    "clipping by value": (classifier, {}, {"gradient_clip_val": 0.001, "gradient_clip_algorithm": "value"}),
    "accumulation": (one_cycle, {}, {"accumulate_grad_batches": 3}),
    "bf16": (classifier, {}, {"precision": "bf16-mixed"}),
    "augmentation": (classifier, {"augment": [RandomCrop(2), HorizontalFlip()]}, {}),
    "mixed labels": (classifier, {"augment": [CutMix()]}, {}),
    "validation in the epoch": (classifier, {}, {"val_check_interval": 0.25}),
    "validation by steps": (classifier, {}, {"val_check_interval": 7, "check_val_every_n_epoch": None}),
    "no validation": (classifier, {"val_size": 0}, {}),
    "steps": (classifier, {}, {"max_steps": 25, "max_epochs": -1}),
    "a part of the epoch": (classifier, {}, {"limit_train_batches": 5}),
    "a live teacher": (lambda fast: cosine(fast, remember_teacher=False), {}, {}),
    "a remembered teacher": (lambda fast: cosine(fast, remember_teacher=True), {}, {}),
    "a remembered teacher, mirrored": (
        lambda fast: cosine(fast, remember_teacher=True),
        {"augment": [HorizontalFlip()]},
        {},
    ),
}


def without_dropout(task: Task) -> Task:
    for module in task.network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return task
