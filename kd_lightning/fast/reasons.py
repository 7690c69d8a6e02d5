"""Reasons why Lightning has to see every batch, or why a step cannot become a CUDA graph: clauses of messages."""

from collections.abc import Iterator

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import SingleDeviceStrategy

from kd_lightning.data.base import ImageDataModule
from kd_lightning.data.loader import BatchLoader
from kd_lightning.fast.known import (
    CALLBACKS,
    LAYERS,
    OPTIMIZERS,
    PRECISIONS,
    SCHEDULES,
    UNKNOWN,
    hooks,
    own_members,
    unknown,
)
from kd_lightning.tasks import Distill, Task
from kd_lightning.tasks.sam import SAM

BEFORE_STEPS = frozenset(
    {
        *("__init__", "class_names", "in_channels", "image_size", "num_classes", "load", "has_val", "split"),
        *("broken", "file_names", "pixel_range"),
        *("prepare_data", "setup", "teardown", "on_exception", "state_dict", "load_state_dict"),
        *("train_rows", "val_rows", "test_rows", "train_dataloader", "val_dataloader", "test_dataloader"),
    }
)
"""Members that a datamodule may override without a mark: no step uses them."""


def per_batch_reason(task: Task) -> str | None:
    """Return why every batch has to go through Lightning; ``None`` where all parts of a step are known to need not.

    Args:
        task: The trained task; its trainer has just started.
    """
    parts = (_of_trainer, _of_loader, _of_optimizer, _of_task, _of_callbacks)
    return next((reason for part in parts for reason in part(task)), None)


def _of_trainer(task: Task) -> Iterator[str]:
    trainer = task.trainer
    if trainer.world_size > 1:
        yield "several processes train together"
    if torch.is_anomaly_enabled():
        yield "detect_anomaly looks at every step"
    if type(trainer.profiler) is not PassThroughProfiler:  # type: ignore[attr-defined]
        yield "the profiler measures every step"
    if getattr(trainer.precision_plugin, "scaler", None) is not None:
        yield f"precision {trainer.precision} looks at the gradients of every step"
    if trainer.reload_dataloaders_every_n_epochs:  # type: ignore[attr-defined]
        yield "reload_dataloaders_every_n_epochs makes new batches in the middle of the run"
    yield from unknown(trainer, [Trainer])
    yield from unknown(trainer.strategy, [SingleDeviceStrategy])
    yield from unknown(trainer.precision_plugin, PRECISIONS)


def _of_loader(task: Task) -> Iterator[str]:
    loader = task.trainer.train_dataloader
    if not isinstance(loader, BatchLoader):
        yield f"the training images come from a {type(loader).__name__} and not from a BatchLoader"
        return
    yield from unknown(loader)
    yield from unknown(loader.sampler)
    yield from own_members(task.data, ImageDataModule, BEFORE_STEPS)
    yield from unknown(task.data, [type(task.data)])
    yield from unknown(task.data.pipeline)


def _of_optimizer(task: Task) -> Iterator[str]:
    optimizer = task.trainer.optimizers[0]
    yield from unknown(optimizer, OPTIMIZERS)
    if isinstance(optimizer, SAM):
        yield "SAM computes the gradients twice in a step"
    if optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks:
        yield f"a hook on {type(optimizer).__name__} {UNKNOWN}"


def _of_task(task: Task) -> Iterator[str]:
    if not task.automatic_optimization:
        yield f"{type(task).__name__} optimizes by itself"
    yield from unknown(task)
    for module in (task, *task.step_modules()):
        yield from hooks(module)


def _of_callbacks(task: Task) -> Iterator[str]:
    for callback in task.trainer.callbacks:  # type: ignore[attr-defined]
        yield from unknown(callback, CALLBACKS)


def no_capture_reason(task: Task) -> str | None:
    """Return why a step on the fast path cannot become a CUDA graph; ``None`` where it can.

    A graph keeps the Python values of its capture, so all Python code in a step must be known.
    """
    parts = (_of_memory, _of_layers, _of_augmentation, _of_schedules)
    return next((reason for part in parts for reason in part(task)), None)


def _of_memory(task: Task) -> Iterator[str]:
    if isinstance(task, Distill) and not task.targets.on_device(task.device):
        yield "the teacher's cached targets do not fit on the GPU"
    if task.trainer.train_dataloader.data.images.device != task.device:  # type: ignore[union-attr]
        yield "the images do not fit on the GPU"


def _of_layers(task: Task) -> Iterator[str]:
    for module in task.step_modules():
        for layer in module.modules():
            yield from unknown(layer, LAYERS)


def _of_augmentation(task: Task) -> Iterator[str]:
    for step in task.data.pipeline.steps:
        yield from unknown(step)


def _of_schedules(task: Task) -> Iterator[str]:
    optimizer = task.trainer.optimizers[0]
    for config in task.trainer.lr_scheduler_configs:
        for schedule in (config.scheduler, *getattr(config.scheduler, "_schedulers", ())):
            if getattr(schedule, "cycle_momentum", False):
                yield "its schedule changes the momentum in every step; give it cycle_momentum: false"
            yield from unknown(schedule, SCHEDULES)
    if not all("capturable" in group or group.get("fused") for group in optimizer.param_groups):
        yield f"{type(optimizer).__name__} reads its learning rate on the host; set fused: true if it has that option"
