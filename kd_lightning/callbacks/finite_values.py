"""A fit stops where its loss or weights are no longer finite numbers."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from kd_lightning.errors import UserError

if TYPE_CHECKING:
    from kd_lightning.tasks import Task
    from kd_lightning.tasks.epoch_metrics import Stage

STEPS_AT_ONCE = 100
"""Steps whose losses are checked together where a check makes a device or other processes wait."""

NONE = 2**62
"""Means "no step" in what processes tell each other."""


class FiniteValues(Callback):
    """Stop a run whose losses or weights are not finite, before anything is chosen, saved or exported by them.

    A single process on a CPU checks every step. Otherwise losses are checked many at a time, so that no step waits for
    the device; several processes check together, and all stop where one has found something.
    """

    def __init__(self) -> None:
        self._trainer: Trainer | None = None
        self._limit = STEPS_AT_ONCE
        self._names: list[str] = []
        self._values: list[Tensor] = []
        self._steps: list[int] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the losses of every step from now on."""
        self._trainer, self._values, self._steps = trainer, [], []
        self._limit = 1 if trainer.strategy.root_device.type == "cpu" and trainer.world_size == 1 else STEPS_AT_ONCE
        cast("Task", pl_module).metrics.note = self._note

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the losses of the epoch and their means, before these are logged."""
        self._check_losses(trainer)
        _check_means(cast("Task", pl_module), "train")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the losses of training before checkpoints are chosen."""
        self._check_losses(trainer)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the mean losses of the validation."""
        _check_means(cast("Task", pl_module), "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check the mean losses of the test."""
        _check_means(cast("Task", pl_module), "test")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Check losses and weights."""
        self._check_losses(trainer)
        _check_weights(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Check losses and weights, and note no more: some callbacks copy the task, without its trainer."""
        self.on_save_checkpoint(trainer, pl_module, {})
        self._trainer = cast("Task", pl_module).metrics.note = None

    def _note(self, losses: dict[str, Tensor]) -> None:
        """Note losses by name: scalars of the current step, or (N,) of the N steps before it."""
        assert self._trainer is not None
        self._names = list(losses)
        self._values.append(torch.stack([loss.reshape(-1) for loss in losses.values()]))  # (names, N)
        step, count = self._trainer.global_step, self._values[-1].shape[1]
        self._steps += [step] if next(iter(losses.values())).ndim == 0 else range(step - count, step)
        if len(self._steps) >= self._limit:
            self._check_losses(self._trainer)

    def _check_losses(self, trainer: Trainer) -> None:
        if not self._values:
            return
        bad = (~torch.cat(self._values, 1).isfinite()).cpu().T.nonzero().tolist()  # pairs of column and name, in order
        found = self._steps[bad[0][0]] * len(self._names) + bad[0][1] if bad else NONE
        self._values, self._steps = [], []
        if trainer.world_size > 1:
            here = torch.tensor(found, device=trainer.strategy.root_device)
            found = int(trainer.strategy.reduce(here, reduce_op="min"))
        if found != NONE:
            step, name = divmod(found, len(self._names))
            loss = f"the loss '{self._names[name]}'".removesuffix(" 'loss'")
            what = f"{loss} is not a finite number in step {step} of epoch {trainer.current_epoch}"
            raise _diverged(trainer, what) if step else _bad_start(what)


def _check_weights(trainer: Trainer, task: LightningModule) -> None:
    """Refuse weights that are not finite, which the last step can leave without any loss to show it."""
    values = [values for values in task.state_dict().values() if values.is_floating_point()]
    if not torch.stack([part.isfinite().all() for part in values]).all():
        raise _diverged(trainer, f"the trained weights are not finite numbers after step {trainer.global_step - 1}")


def _check_means(task: "Task", stage: "Stage") -> None:
    """Refuse mean losses over an epoch that are not finite."""
    metrics = task.metrics.of(stage)
    for name in (f"{stage}/{loss}" for loss in task.metrics.loss_names):
        metric = metrics[name]
        if not metric.update_called or metric.compute().isfinite():
            continue
        if task.trainer.state.fn != "fit":
            raise UserError(
                f"{name} is not a finite number, so the measured network is not a trained one; give another file."
            )
        raise _diverged(task.trainer, f"{name} is not a finite number after step {task.trainer.global_step - 1}")


def _diverged(trainer: Trainer, what: str) -> UserError:
    """Return the error for a fit whose numbers are no longer finite."""
    rate = float(trainer.optimizers[0].param_groups[0]["lr"])
    half = ", or --trainer.precision 32-true" if trainer.precision.startswith("16") else ""
    return UserError(
        f"{what}, at a learning rate of {rate:.3g}, and nothing is exported; try a tenth of the rate "
        f"(--model.optimizer.lr), or --trainer.gradient_clip_val 1{half}; {_saved(trainer)}."
    )


def _bad_start(what: str) -> UserError:
    """Return the error for a first step, which training cannot have caused."""
    return UserError(
        f"{what}, before anything was trained; check the normalization of the images (--data.normalize), "
        "the weights of the losses, and the networks' outputs for an image."
    )


def _saved(trainer: Trainer) -> str:
    paths = [Path(c.best_model_path) for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
    good = next((path for path in paths if path.is_file()), None)
    return "no checkpoint was written before" if good is None else f"the last good checkpoint is {good}"
