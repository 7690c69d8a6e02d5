"""A resumed run continues as an undisturbed one: the same dropout, optimizer and schedule."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from kd_lightning.errors import UserError

IGNORED_SETTINGS = ("params", "initial_lr", "fused", "foreach", "capturable", "differentiable")
"""Settings of an optimizer's groups that change how it computes, and not the result."""


class Resume(Callback):
    """Keep the random state and the optimizer's settings in checkpoints; compare and restore them in a resumed run."""

    def __init__(self) -> None:
        self._settings: dict[str, Any] = {}
        self._saved: dict[str, Any] = {}
        self._device = torch.device("cpu")

    def state_dict(self) -> dict[str, Any]:
        """Return the random state of the host and the GPU, and the settings that the config gave."""
        state = {"settings": self._settings, "random": torch.get_rng_state()}
        return state if self._device.type == "cpu" else state | {"cuda": torch.cuda.get_rng_state(self._device)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Read a checkpoint's state, for the start of training."""
        self._saved = state_dict

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begin a run, before a checkpoint is read."""
        self._saved = {}
        self._device = trainer.strategy.root_device

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse another optimizer or schedule than the checkpoint's, which is restored next.

        Raises:
            UserError: They differ.
        """
        schedules = [config.scheduler for config in trainer.lr_scheduler_configs]
        self._settings = _described(trainer.optimizers[0], schedules[0] if schedules else None)
        saved = self._saved.get("settings", {})
        for name, value in self._settings.items():
            if name in saved and saved[name] != value:
                raise UserError(
                    f"the checkpoint was trained with {name} {saved[name]}, with which a resumed run continues, but "
                    f"this config says {value}; leave it as it was, or start a new run without --ckpt_path."
                )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reset to the random seed, whatever was built before, or continue with the random state of a checkpoint.

        Raises:
            UserError: The checkpoint does not contain it.
        """
        if trainer.ckpt_path is not None and not self._saved:
            raise UserError(
                f"{trainer.ckpt_path} does not contain the state of a run, or another version of kd_lightning wrote "
                "it, so training cannot resume from it; start a new run without --ckpt_path."
            )
        torch.manual_seed(torch.initial_seed())
        if "random" in self._saved:
            torch.set_rng_state(self._saved["random"].cpu())
        if "cuda" in self._saved and self._device.type == "cuda":
            torch.cuda.set_rng_state(self._saved["cuda"].cpu(), self._device)


def _described(optimizer: Optimizer, schedule: LRScheduler | ReduceLROnPlateau | None) -> dict[str, Any]:
    """Return the settings of optimizer and schedule as plain values, by name."""
    found: dict[str, Any] = {"optimizer": type(optimizer).__name__, "lr_scheduler": type(schedule).__name__}
    for index, group in enumerate(optimizer.param_groups):
        prefix = f"optimizer.{index}." if index else "optimizer."
        found |= {prefix + name: _plain(value) for name, value in group.items() if name not in IGNORED_SETTINGS}
    settings = {} if schedule is None else schedule.state_dict()
    return found | {f"lr_scheduler.{name}": _plain(value) for name, value in settings.items()}


def _plain(value: Any) -> Any:
    """Return a value as plain ones, and any other object as the name of its type."""
    if isinstance(value, dict):
        return [[_plain(key), _plain(item)] for key, item in value.items()]
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Tensor) and value.numel() == 1:
        return value.item()
    return value if isinstance(value, bool | int | float | str | None) else type(value).__name__
