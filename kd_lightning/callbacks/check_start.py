"""Checks before the first step, of what the running trainer alone knows."""

from typing import TYPE_CHECKING, Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch.optim.lr_scheduler import OneCycleLR

from kd_lightning.callbacks.trainer_callbacks import callbacks_of
from kd_lightning.data.base import ImageDataModule
from kd_lightning.data.compatibility import check_network
from kd_lightning.data.loader import BatchLoader
from kd_lightning.errors import UserError
from kd_lightning.networks import Network
from kd_lightning.networks.trial import in_mode, trial_images
from kd_lightning.wording import counted

if TYPE_CHECKING:
    from kd_lightning.tasks import Task


class CheckStart(Callback):
    """Refuse, before the first step, a run that would fail late or give a wrong result without an error."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that network, losses and data match."""
        task = cast("Task", pl_module)
        if not isinstance(task.data, ImageDataModule):
            raise UserError(
                f"{type(task).__name__} needs an ImageDataModule, not {type(task.data).__name__}; see --data."
            )
        check_network(task.network, task.data)
        if stage == "fit":
            _check_trained(task)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the last batch, the length of schedules, and the mode in which metrics are monitored."""
        task = cast("Task", pl_module)
        _check_last_batch(task.network, trainer)
        for config in trainer.lr_scheduler_configs:
            _check_length(config.scheduler, trainer.estimated_stepping_batches)
            if config.reduce_on_plateau:
                _check_mode(task, config.scheduler, config.monitor, "--model.lr_scheduler.mode")
        for callback in callbacks_of(trainer, Callback):
            if isinstance(callback, EarlyStopping | ModelCheckpoint):
                _check_mode(task, callback, callback.monitor, "its mode in --trainer.callbacks")


def _check_trained(task: "Task") -> None:
    """Refuse a network without parameters to train, and images that the losses are undefined for."""
    if not any(values.requires_grad for values in task.network.parameters()):
        raise UserError(f"{type(task.network.layer_root()).__name__} has no parameters to train; give another network.")
    mixing = ", ".join(type(step).__name__ for step in task.data.augment if step.mixes_labels)
    for name, loss in task.losses.named.items():
        if loss.needs_hard_labels and mixing:
            raise UserError(
                f"the loss '{name}' ({type(loss).__name__}) is undefined for mixed images, but --data.augment has "
                f"{mixing}; leave that out, or use another loss, such as SoftTargets."
            )
    if task.data.num_unlabelled:
        _check_unlabelled(task, mixing)


def _check_unlabelled(task: "Task", mixing: str) -> None:
    """Refuse unlabelled images that are mixed with others, that no loss learns from, or beside losses on labels."""
    if mixing:
        raise UserError(
            f"{mixing} in --data.augment mixes labels, but {counted(task.data.num_unlabelled, 'training image')} have "
            "none; leave it out, or train without unlabelled images."
        )
    on_labels = [name for name, loss in task.losses.named.items() if loss.sees_labelled]
    if len(on_labels) == len(task.losses.named):
        raise UserError(
            f"all losses of this {type(task).__name__} need labels ({', '.join(on_labels)}), so none learns from the "
            f"{counted(task.data.num_unlabelled, 'unlabelled image')}; add one that learns from a teacher, such as "
            "SoftTargets, or leave --data.unlabelled out."
        )
    if on_labels and task.data.num_unlabelled == len(task.data.train_rows()[1]):
        name = on_labels[0]
        raise UserError(
            f"the loss '{name}' ({type(task.losses.named[name]).__name__}) needs labels, but no training image has "
            "one; leave it out of model.losses, or give --data.root a folder train with labelled images."
        )


def _check_length(schedule: Any, steps: float) -> None:
    """Tell a schedule the optimizer steps of the run, if it has ``set_length``; refuse one that ends before the run."""
    if hasattr(schedule, "set_length"):
        schedule.set_length(steps)
    elif isinstance(schedule, OneCycleLR) and steps > schedule.total_steps:
        raise UserError(
            f"OneCycleLR ends after {schedule.total_steps} steps, but this run has {steps:.0f}; "
            "set its total_steps to that, or use kd_lightning.tasks.schedules.OneCycle, which sets it itself."
        )


def _check_mode(task: "Task", watcher: Any, monitor: str | None, option: str) -> None:
    """Refuse a mode in which the lowest accuracy or the highest loss is the best."""
    stage, _, metric = (monitor or "").rpartition("/")
    right = {"accuracy": "max", **dict.fromkeys(task.metrics.loss_names, "min")}.get(metric, watcher.mode)
    if stage in ("train", "val") and watcher.mode != right:
        better = "higher" if right == "max" else "lower"
        raise UserError(
            f"{type(watcher).__name__} monitors {monitor} in mode {watcher.mode}, but {better} is better; "
            f"set {option} to {right}."
        )


def _check_last_batch(network: Network, trainer: Trainer) -> None:
    """Refuse an epoch whose last batch has one image where the network's batch normalization needs more."""
    loader = trainer.train_dataloader
    if not isinstance(loader, BatchLoader) or trainer.num_training_batches < len(loader):
        return
    images = len(loader.sampler)
    if (images % loader.batch_size or loader.batch_size) != 1 or loader.drop_last or _trains_on_one(network):
        return
    raise UserError(
        f"{counted(images, 'training image')} in batches of {loader.batch_size} leave a last batch of one, on which "
        f"{type(network).__name__}'s batch normalization cannot train; set --data.drop_last true, or another "
        "--data.batch_size."
    )


@torch.no_grad()
def _trains_on_one(network: Network) -> bool:
    """Return whether a network can train on a batch of one image; it stays unchanged."""
    try:
        with in_mode(network, training=True):
            network(trial_images(network, 1, network.image_shape))
    except ValueError as error:
        return "more than 1 value per channel" not in str(error)
    return True
