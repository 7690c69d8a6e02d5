"""Sets of options for Trainer, optimizer, schedule, callbacks and data that work with the fast path."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fast_example import classifier, cosine
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch import callbacks as theirs
from lightning.pytorch.cli import ReduceLROnPlateau
from task_example import light
from tiny import TinyDataModule, TinyNetwork
from torch import Tensor, optim
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm
from torch.optim import SGD, Adam, lr_scheduler

from kd_lightning.data.augment import (
    AlternatingFlip,
    Augmentation,
    ColorJitter,
    CutMix,
    Cutout,
    HorizontalFlip,
    Mixup,
    RandAugment,
    RandomCrop,
    RandomTranslate,
    TrivialAugment,
)
from kd_lightning.data.loader import Batch
from kd_lightning.networks import DeepNN
from kd_lightning.tasks import Classifier, FeatureRegressDistill, Task
from kd_lightning.tasks.schedules import OneCycle
from kd_lightning.tasks.step import Step
from kd_lightning.teacher import Teacher

Make = Callable[[Any], Task]


@dataclass(frozen=True)
class Case:
    """A set of options.

    Attributes:
        make: Makes the task; its argument is ``fast``.
        data: Arguments of the data.
        trainer: Arguments of the trainer.
        more: Makes further arguments of the trainer, for a folder.
        source: The data's class.
        uncaptured: Why its steps cannot become a CUDA graph; nothing where they can.
    """

    make: Make = classifier
    data: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)
    more: Callable[[Path], dict[str, Any]] = lambda folder: {}
    source: type[TinyDataModule] = TinyDataModule
    uncaptured: str = ""


def with_optimizer(kind: Any, **options: Any) -> Make:
    return lambda fast: classifier(fast, optimizer=lambda p: kind(p, **{"lr": 2**-7, **options}))


def with_schedule(schedule: Any, interval: str = "step") -> Make:
    return lambda fast: classifier(fast, lr_scheduler=schedule, lr_interval=interval)


def in_groups(parameters: Any) -> Adam:
    first, *others = parameters
    return Adam([{"params": [first], "lr": 2**-5}, {"params": others}], lr=2**-7, fused=True)


def one_after_the_other(optimizer: Any) -> Any:
    parts = [lr_scheduler.ConstantLR(optimizer, 0.5, 5), lr_scheduler.ExponentialLR(optimizer, 0.75)]
    return lr_scheduler.SequentialLR(optimizer, parts, milestones=[5])


def cyclic(optimizer: Any, **options: Any) -> Any:
    return lr_scheduler.CyclicLR(optimizer, 2**-9, 2**-6, step_size_up=4, **options)


class Assigns(OneCycle):
    """A schedule that assigns a number where torch's own ones fill a tensor."""

    works_with_fast_path = True

    def step(self, epoch: int | None = None) -> None:
        super().step(epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = float(group["lr"])


class OwnNetwork(TinyNetwork):
    """Subclass of a marked class, with a change that the mark does not cover."""


class Shift(Augmentation):
    """An augmentation of a user's own."""

    seed = 0

    def apply(self, images: Tensor, labels: Tensor, rows: Tensor, epoch: int | Tensor) -> tuple[Tensor, Tensor]:
        return images + self.uniform(rows, epoch, 1)[0].view(-1, 1, 1, 1), labels


class MarkedShift(Shift):
    works_with_fast_path = True


class MarkedTask(Classifier):
    """A user's own task that is marked."""

    works_with_fast_path = True

    def step(self, batch: Batch) -> Step:
        logits = self.network(batch.images)
        losses = {"labels": functional.cross_entropy(logits, batch.labels, label_smoothing=0.1)}
        return Step(logits, self.losses.weighted(losses), losses, batch.labels)


class Changes(Callback):
    """Changes, between epochs, what a step reads from Python."""

    works_with_fast_path = True

    def __init__(self, change: Callable[[Any, Trainer], None]) -> None:
        self.change = change

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == 1:
            self.change(pl_module, trainer)


def change(change: Callable[[Any, Trainer], None]) -> Case:
    return Case(more=lambda folder: {"callbacks": [Changes(change)]})


def halve_loss(task: Any, trainer: Trainer) -> None:
    task.losses.named["labels"].weight.fill_(0.125)


def drop_out_less(task: Any, trainer: Trainer) -> None:
    task.network.classifier[2].p = 0.0


def decay(task: Any, trainer: Trainer) -> None:
    trainer.optimizers[0].param_groups[0]["weight_decay"] = 0.5


def freeze(task: Any, trainer: Trainer) -> None:
    task.network.features.requires_grad_(False)


def normed(fast: Any) -> Task:
    task = classifier(fast)
    weight_norm(task.network.classifier[0])  # type: ignore[index, arg-type]
    return task


def regress(fast: Any) -> Task:
    teacher = Teacher(DeepNN(num_classes=4, image_size=8))
    return FeatureRegressDistill(light(), teacher, optimizer=lambda p: Adam(p, lr=2**-7, fused=True), fast=fast)


def calling(*callbacks: Callable[[Path], Callback], **options: Any) -> Case:
    return Case(trainer=options, more=lambda folder: {"callbacks": [make(folder) for make in callbacks]})


READS_COUNTS = (
    "cannot be captured: operation not permitted"  # on a CPU, where torch reads counts of steps; not on a GPU
)
UNKNOWN = "is not known to work with the fast path"
NO_MARK = rf"{UNKNOWN} \(set works_with_fast_path = True in the class if it does\)"

CASES: dict[str, Case] = {
    "plain": Case(),
    "SGD": Case(with_optimizer(SGD, momentum=0.5, nesterov=True, fused=True)),
    "SGD of many kernels": Case(with_optimizer(SGD), uncaptured="SGD reads its learning rate on the host"),
    "RMSprop": Case(with_optimizer(optim.RMSprop, momentum=0.5, centered=True), uncaptured=READS_COUNTS),
    "groups of parameters": Case(lambda fast: classifier(fast, optimizer=in_groups)),
    "one cycle": Case(with_schedule(OneCycle)),
    "a schedule of a user's own": Case(with_schedule(Assigns)),
    "plateaus of the loss": Case(
        with_schedule(lambda o: ReduceLROnPlateau(o, monitor="val/loss", patience=0, threshold=1.0), "epoch")
    ),
    "a schedule of epochs": Case(with_schedule(lambda o: lr_scheduler.StepLR(o, 1), "epoch")),
    "schedules one after the other": Case(with_schedule(one_after_the_other)),
    "cycles with momentum": Case(with_schedule(cyclic), uncaptured="its schedule changes the momentum in every step"),
    "cycles without": Case(with_schedule(lambda o: cyclic(o, cycle_momentum=False))),
    "clipping by norm": Case(trainer={"gradient_clip_val": 0.01}),
    "clipping by value": Case(trainer={"gradient_clip_val": 0.001, "gradient_clip_algorithm": "value"}),
    "accumulation": Case(with_schedule(OneCycle), trainer={"accumulate_grad_batches": 3}),
    "accumulation, validation in a group": Case(
        trainer={"accumulate_grad_batches": 2, "val_check_interval": 5, "log_every_n_steps": 1}
    ),
    "bf16 throughout": Case(trainer={"precision": "bf16-true"}),
    "moves": Case(data={"augment": [RandomCrop(2), HorizontalFlip(), RandomTranslate(), ColorJitter(), Cutout(2)]}),
    "operations": Case(data={"augment": [AlternatingFlip(), TrivialAugment(), RandAugment()]}),
    "mixed labels": Case(data={"augment": [CutMix(), Mixup()]}),
    "an augmentation of a user's own": Case(data={"augment": [Shift()]}, uncaptured=f"Shift {NO_MARK}"),
    "a marked augmentation": Case(data={"augment": [MarkedShift()]}),
    "validation in the epoch": Case(trainer={"val_check_interval": 0.5}),
    "validation by steps": Case(trainer={"val_check_interval": 7, "check_val_every_n_epoch": None}),
    "validation in some epochs": Case(trainer={"check_val_every_n_epoch": 2, "limit_val_batches": 1}),
    "no validation": Case(data={"val_size": 0}),
    "validation before training": Case(trainer={"num_sanity_val_steps": 2}),
    "steps": Case(trainer={"max_steps": 13, "max_epochs": -1}),
    "overfitting": Case(trainer={"overfit_batches": 6}),
    "nothing but training": Case(trainer={"barebones": True, "logger": None}),
    "batch normalization": Case(lambda fast: Classifier(TinyNetwork(), fast=fast)),
    "a network of a user's own": Case(
        lambda fast: Classifier(OwnNetwork(), fast=fast), uncaptured=f"OwnNetwork {NO_MARK}"
    ),
    "layers with parametrizations": Case(normed, uncaptured=f"ParametrizedLinear {UNKNOWN}"),
    "a marked task": Case(lambda fast: MarkedTask(light(), fast=fast)),
    "a live teacher": Case(lambda fast: cosine(fast, cache_teacher=False)),
    "a cached teacher": Case(lambda fast: cosine(fast, cache_teacher=True)),
    "a cached teacher, mirrored": Case(lambda fast: cosine(fast, cache_teacher=True), {"augment": [HorizontalFlip()]}),
    "a regressor": Case(regress),
    "the loss's weight changes": change(halve_loss),
    "dropout changes": change(drop_out_less),
    "weight decay changes": change(decay),
    "layers are frozen": change(freeze),
    "checkpoints by steps": calling(
        lambda folder: theirs.ModelCheckpoint(folder, every_n_train_steps=4, save_top_k=-1), enable_checkpointing=True
    ),
    "stops early, but no earlier than it may": calling(
        lambda folder: theirs.EarlyStopping("val/loss", min_delta=9.0, patience=0),
        max_epochs=5,
        min_steps=27,
        val_check_interval=3,
    ),
    "accumulation that changes": calling(
        lambda folder: theirs.GradientAccumulationScheduler({0: 1, 1: 2, 3: 1}), max_epochs=4
    ),
    "callbacks that only read": calling(
        lambda folder: theirs.RichProgressBar(),
        lambda folder: theirs.RichModelSummary(),
        lambda folder: theirs.OnExceptionCheckpoint(folder),
        lambda folder: theirs.Timer("00:10:00:00"),
        enable_progress_bar=True,
        enable_checkpointing=True,
        enable_model_summary=True,
    ),
    "learning rates are logged": Case(
        with_schedule(OneCycle),
        trainer={"log_every_n_steps": 3},
        more=lambda folder: {"callbacks": [theirs.LearningRateMonitor("step")]},
    ),
}
"""Each is trained in three ways: step by step, many steps in one call, and with captured steps."""
