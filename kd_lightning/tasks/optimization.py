"""The optimizer and the learning rate schedule of a task."""

from typing import Any, Literal

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelPruning
from torch.optim import LBFGS, Adam, Optimizer
from torch.optim.lr_scheduler import CyclicLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from kd_lightning.callbacks.trainer_callbacks import callbacks_of
from kd_lightning.errors import UserError
from kd_lightning.tasks.muon import MuonAdamW
from kd_lightning.tasks.sam import SAM
from kd_lightning.tasks.schedules import OneCycle

Interval = Literal["auto", "epoch", "step"]

OF_STEPS = (OneCycle, OneCycleLR, CyclicLR)
"""Schedules whose unit is the step."""


def notebook_optimizer(parameters: Any) -> Adam:
    """Return the reference notebook's optimizer: Adam with a learning rate of 5e-5, in its fused implementation."""
    return Adam(parameters, lr=5e-5, fused=True)


def check_factories(optimizer: object, lr_scheduler: object) -> None:
    """Refuse what cannot create an optimizer or a schedule, such as a name or an optimizer itself.

    Raises:
        UserError: One is not a function, a class or a ``partial``.
    """
    if not callable(optimizer):
        raise UserError(
            f"the optimizer is {_described(optimizer)}, but it must create one from parameters; give "
            "partial(torch.optim.AdamW, lr=3e-3), or the class itself."
        )
    if lr_scheduler is not None and not callable(lr_scheduler):
        raise UserError(
            f"the lr_scheduler is {_described(lr_scheduler)}, but it must create one from an optimizer; give "
            "partial(torch.optim.lr_scheduler.StepLR, step_size=10), or a class such as OneCycle itself."
        )


def _described(value: object) -> str:
    return repr(value) if isinstance(value, str | int | float | dict) else f"an object of {type(value).__name__}"


def flattens_weights(optimizer: Optimizer, trainer: Trainer) -> bool:
    """Return whether something calls ``view`` on weights or gradients, which only contiguous memory allows."""
    known = type(optimizer).__module__.startswith("torch.optim.") or type(optimizer) in (MuonAdamW, SAM)
    elementwise = known and not isinstance(optimizer, LBFGS)
    return not elementwise or bool(callbacks_of(trainer, ModelPruning))


def schedule_entry(schedule: LRScheduler, interval: Interval, trainer: Trainer) -> dict[str, Any]:
    """Return a schedule's entry for Lightning's ``configure_optimizers``.

    Raises:
        UserError: The schedule cannot be updated at this interval.
    """
    name, watches = type(schedule).__name__, isinstance(schedule, ReduceLROnPlateau)
    own: Literal["epoch", "step"] = "step" if isinstance(schedule, OF_STEPS) else "epoch"
    if interval not in ("auto", own) and (own == "step" or watches):
        raise UserError(f"--model.lr_interval is {interval}, but {name} is updated every {own}; set it to {own}.")
    entry: dict[str, Any] = {"scheduler": schedule, "interval": own if interval == "auto" else interval}
    monitor: str | None = getattr(schedule, "monitor", None)
    if watches and monitor is not None:  # Lightning asks for a missing one
        every = trainer.check_val_every_n_epoch if monitor.startswith("val/") else 1
        if every is None:
            raise UserError(
                f"ReduceLROnPlateau monitors {monitor} in every epoch, but validation goes by batches; "
                "set --trainer.check_val_every_n_epoch 1, or --model.lr_scheduler.monitor train/loss."
            )
        entry |= {"monitor": monitor, "frequency": every}
    return entry
