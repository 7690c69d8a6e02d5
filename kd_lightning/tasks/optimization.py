"""The optimizer and the learning rate schedule of a task: their updates, and what a resumed run keeps."""

from typing import TYPE_CHECKING, Any, Literal

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelPruning
from torch import Tensor
from torch.optim import LBFGS, Adam, Optimizer
from torch.optim.lr_scheduler import CyclicLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from kd_lightning.errors import UserError
from kd_lightning.tasks.monitors import check_mode, check_monitor
from kd_lightning.tasks.schedules import OneCycle
from kd_lightning.tasks.trainer_callbacks import callbacks_of

if TYPE_CHECKING:
    from kd_lightning.tasks.base import Task

Interval = Literal["auto", "epoch", "step"]

OF_STEPS = (OneCycle, OneCycleLR, CyclicLR)
"""Schedules whose unit is the step."""

IGNORED_SETTINGS = ("params", "initial_lr", "fused", "foreach", "capturable", "differentiable")
"""Settings of an optimizer's groups that change how it computes, and not the result."""


def notebook_optimizer(parameters: Any) -> Adam:
    """Return the reference notebook's optimizer: Adam with a learning rate of 5e-5, in its fused implementation."""
    return Adam(parameters, lr=5e-5, fused=True)


def flattens_weights(optimizer: Optimizer, trainer: Trainer) -> bool:
    """Return whether something calls ``view`` on weights or gradients, which only contiguous memory allows."""
    elementwise = type(optimizer).__module__.startswith("torch.optim.") and not isinstance(optimizer, LBFGS)
    return not elementwise or bool(callbacks_of(trainer, ModelPruning))


def schedule_entry(task: "Task", scheduler: LRScheduler, interval: Interval) -> dict[str, Any]:
    """Return a schedule's entry for Lightning's ``configure_optimizers``.

    Raises:
        UserError: The schedule cannot be updated at this interval, or its metric is not measured.
    """
    name, watches = type(scheduler).__name__, isinstance(scheduler, ReduceLROnPlateau)
    own: Literal["epoch", "step"] = "step" if isinstance(scheduler, OF_STEPS) else "epoch"
    if interval not in ("auto", own) and (own == "step" or watches):
        raise UserError(f"--model.lr_interval is {interval}, but {name} is updated every {own}; set it to {own}.")
    entry: dict[str, Any] = {"scheduler": scheduler, "interval": own if interval == "auto" else interval}
    if watches:
        entry |= {"monitor": _monitored(task, scheduler), "frequency": _frequency(task.trainer, scheduler)}
    return entry


def _monitored(task: "Task", scheduler: Any) -> str:
    """Return the metric that a schedule monitors; refuse one that is never measured."""
    name: str | None = getattr(scheduler, "monitor", None)
    if name is None:
        raise UserError(
            "torch's ReduceLROnPlateau does not state which metric it monitors; "
            "use lightning.pytorch.cli.ReduceLROnPlateau and its argument monitor: val/loss."
        )
    check_monitor(task, "ReduceLROnPlateau", name, "--model.lr_scheduler.monitor")
    check_mode(task, "ReduceLROnPlateau", name, scheduler.mode, "--model.lr_scheduler.mode")
    return name


def _frequency(trainer: Trainer, scheduler: Any) -> int:
    """Return after how many epochs there is a new value of the metric that a schedule monitors."""
    if not scheduler.monitor.startswith("val/"):
        return 1
    every = trainer.check_val_every_n_epoch
    if every is None:
        raise UserError(
            f"ReduceLROnPlateau monitors {scheduler.monitor} in every epoch, but validation goes by batches; "
            "set --trainer.check_val_every_n_epoch 1, or --model.lr_scheduler.monitor train/loss."
        )
    return every


def check_length(trainer: Trainer) -> None:
    """Set the length of the run in schedules; refuse those that end before it or began with another length.

    Raises:
        UserError: There is such a schedule, or one needs the length and it is unknown.
    """
    for config in trainer.lr_scheduler_configs:
        scheduler: Any = config.scheduler
        if isinstance(scheduler, OneCycle) and not scheduler.is_given:
            steps = _steps(trainer, scheduler)
            if scheduler.total_steps not in (None, steps):
                raise UserError(
                    f"the OneCycle of the checkpoint has {scheduler.total_steps} steps, but this run has "
                    f"{steps}; leave --trainer.max_epochs and the size of the batches as they were, or start a new run."
                )
            scheduler.set_length(steps)
        elif isinstance(scheduler, OneCycleLR) and _steps(trainer, scheduler) > scheduler.total_steps:
            raise UserError(
                f"OneCycleLR ends after {scheduler.total_steps} steps, but this run has {_steps(trainer, scheduler)}; "
                "set its total_steps to that, or use kd_lightning.tasks.schedules.OneCycle, which sets it itself."
            )


def _steps(trainer: Trainer, scheduler: LRScheduler) -> int:
    steps = trainer.estimated_stepping_batches
    if steps == float("inf"):
        raise UserError(
            f"{type(scheduler).__name__} needs the length of the run, but --trainer.max_epochs and "
            "--trainer.max_steps are both unset; set one, or use another schedule."
        )
    return int(steps)


def described(optimizer: Optimizer, scheduler: LRScheduler | None) -> dict[str, Any]:
    """Return the settings of optimizer and schedule as plain values, by name."""
    found: dict[str, Any] = {"optimizer": type(optimizer).__name__, "lr_scheduler": type(scheduler).__name__}
    for index, group in enumerate(optimizer.param_groups):
        prefix = f"optimizer.{index}." if index else "optimizer."
        found |= {prefix + name: _plain(value) for name, value in group.items() if name not in IGNORED_SETTINGS}
    settings = {} if scheduler is None else scheduler.state_dict()
    found |= {f"lr_scheduler.{name}": _plain(value) for name, value in settings.items()}
    return found


def _plain(value: Any) -> Any:
    """Return a value as plain ones, and any other object as the name of its type."""
    if isinstance(value, dict):
        return [[_plain(key), _plain(item)] for key, item in value.items()]
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Tensor) and value.numel() == 1:
        return value.item()
    return value if isinstance(value, bool | int | float | str | None) else type(value).__name__


def check_resumed(saved: dict[str, Any], built: dict[str, Any]) -> None:
    """Refuse a config that builds another optimizer or schedule than the checkpoint's, with which training resumes.

    Args:
        saved: The checkpoint's settings, from ``described``.
        built: The config's settings, from ``described``.

    Raises:
        UserError: They differ.
    """
    for name, value in built.items():
        if name in saved and saved[name] != value:
            raise UserError(
                f"the checkpoint was trained with {name} {saved[name]}, with which a resumed run continues, but this "
                f"config says {value}; leave it as it was, or start a new run without --ckpt_path."
            )
