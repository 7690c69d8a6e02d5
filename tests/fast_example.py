"""Tasks that are trained on the plain and on the fast path, and what Lightning counts of them."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers.logger import DummyLogger
from task_example import light, quick_trainer
from tiny import TinyDataModule
from torch import nn
from torch.optim import Adam

from kd_lightning.fast.callback import TrainAhead
from kd_lightning.networks import DeepNN
from kd_lightning.tasks import Classifier, CosineDistill, Task
from kd_lightning.tasks.schedules import OneCycle
from kd_lightning.teacher import Teacher

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


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
    callbacks = [TrainAhead(), *options.pop("callbacks", [])]
    trainer = quick_trainer(2, **options, callbacks=callbacks)
    trainer.fit(task, datamodule=source(**{"count": 330, "batch_size": 16, **(data or {})}), ckpt_path=ckpt)
    return trainer, task


def progress(trainer: Trainer) -> dict[str, Any]:
    """Return everything that Lightning counts."""
    loop = trainer.fit_loop.epoch_loop
    return {"step": trainer.global_step, "logged": loop._batches_that_stepped, "loops": trainer.fit_loop.state_dict()}


def assert_same(plain: tuple[Trainer, Task], fast: tuple[Trainer, Task], exact: bool = True) -> None:
    """Compare two runs; a captured step has its learning rates in float32, so it is the same except for rounding."""
    assert progress(plain[0]) == progress(fast[0])
    tolerance = 0.0 if exact else 2e-5
    for name, values in plain[1].state_dict().items():
        assert torch.allclose(values.cpu(), fast[1].state_dict()[name].cpu(), rtol=0, atol=tolerance), name
    logged, expected = fast[0].callback_metrics, plain[0].callback_metrics
    assert logged.keys() == expected.keys()
    for name, value in expected.items():
        assert float(logged[name]) == pytest.approx(float(value), abs=1e-5 if exact else 1e-3), name


class Calls(Callback):
    """Counts what Lightning calls.

    Attributes:
        batches: The batches that it sees.
        hooks: Number of calls of each hook that does not belong to a batch.
    """

    works_with_fast_path = True

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.hooks: Counter[str] = Counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.batches.append(batch_idx)


def _counted(name: str) -> Callable[..., None]:
    return lambda calls, *args, **kwargs: calls.hooks.update([name])


for _name in ("fit_start", "train_start", "train_epoch_start", "train_epoch_end", "validation_start", "validation_end"):
    setattr(Calls, f"on_{_name}", _counted(_name))


class Log(DummyLogger):
    """Keeps what is logged, with the steps."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[tuple[int | None, dict[str, float]]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.lines.append((step, {name: float(value) for name, value in metrics.items()}))


def cosine(fast: bool, **options: Any) -> CosineDistill:
    torch.manual_seed(1)
    teacher = Teacher(DeepNN(num_classes=4, image_size=8))
    options = {"optimizer": lambda p: Adam(p, lr=2**-7, fused=True), **options}
    return CosineDistill(light(), teacher, fast=fast, **options)


def one_cycle(fast: bool) -> Classifier:
    return classifier(fast, lr_scheduler=OneCycle, lr_interval="step")


def without_dropout(task: Task) -> Task:
    for module in task.network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return task
