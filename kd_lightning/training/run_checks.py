"""Checks of settings that would otherwise give a wrong run without an error."""

import inspect
import os
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import torch
from jsonargparse import Namespace
from lightning.pytorch import Trainer

from kd_lightning.data import ImageDataModule
from kd_lightning.errors import UserError
from kd_lightning.training.console import print_rank_zero
from kd_lightning.training.teacher_checks import FROM_DATA
from kd_lightning.training.yaml_check import read_yaml

LAUNCHERS = {
    "TORCHELASTIC_RUN_ID": "WORLD_SIZE",
    "SLURM_STEP_ID": "SLURM_STEP_NUM_TASKS",
    "OMPI_COMM_WORLD_RANK": "OMPI_COMM_WORLD_SIZE",
}
"""Environment variables of ``torchrun``, ``srun`` and ``mpirun``, and the variable with the number of processes."""

NO_WORK = {
    "fit": ("max_epochs", "max_steps", "limit_train_batches"),
    "test": ("limit_test_batches",),
    "validate": ("limit_val_batches",),
}
"""Options of the trainer that leave a command nothing to do where they are 0."""

MIN_VALUES = {
    **dict.fromkeys(("accumulate_grad_batches", "check_val_every_n_epoch"), 1),
    **dict.fromkeys(("gradient_clip_val", "log_every_n_steps", "min_epochs", "min_steps"), 0),
}
"""Minima of the trainer's options that Lightning does not check."""


def check_work(own: Namespace, command: str) -> None:
    """Refuse a command that trains or measures nothing; a resumed run may have done all its steps already.

    Raises:
        UserError: An option leaves nothing to do, or one of the trainer's is wrong.
    """
    for name in NO_WORK[command]:
        goes_on = name.startswith("max_") and own.get("ckpt_path") is not None
        if own.trainer[name] == 0 and not goes_on:
            done = "trained" if command == "fit" else "measured"
            raise UserError(f"--trainer.{name} is 0, so that nothing would be {done}; set it to 1 or more.")
    check_trainer(own.trainer)


def check_trainer(trainer: Namespace) -> None:
    """Refuse trainer options that Lightning accepts silently, or answers with an obscure error.

    Raises:
        UserError: One is too small, or contradicts another.
    """
    for name, minimum in MIN_VALUES.items():
        if trainer[name] is not None and trainer[name] < minimum:
            raise UserError(f"--trainer.{name} is {trainer[name]}, but it must be {minimum} or more.")
    for unit in ("epochs", "steps"):
        minimum, maximum = trainer[f"min_{unit}"], trainer[f"max_{unit}"]
        if minimum is not None and maximum not in (None, -1) and minimum > maximum:
            raise UserError(
                f"--trainer.min_{unit} is {minimum}, above --trainer.max_{unit}, which is {maximum}; change one."
            )
    for name in ("limit_train_batches", "limit_val_batches"):
        if trainer.overfit_batches and trainer[name] is not None:
            raise UserError(
                f"--trainer.overfit_batches {trainer.overfit_batches} replaces --trainer.{name} "
                f"{trainer[name]}; leave one of them out."
            )
    profiler = trainer.profiler if isinstance(trainer.profiler, Namespace) else Namespace()
    if (profiler.get("init_args") or {}).get("emit_nvtx") and not torch.cuda.is_available():
        raise UserError("--trainer.profiler.emit_nvtx is true, but this machine has no NVIDIA GPU; leave it out.")
    if trainer.barebones:
        raise UserError(
            "--trainer.barebones true forbids the logs and checkpoints that a run here keeps; leave it out. "
            "`python -m kd_lightning benchmark` measures the speed of training."
        )


def check_processes(trainer: Trainer) -> None:
    """Refuse processes of a launcher that are not connected: each would be a run of its own.

    Raises:
        UserError: There are several, and the trainer expects one.
    """
    for mark, number in LAUNCHERS.items():
        processes = os.environ.get(number, "1")
        if trainer.world_size == 1 and mark in os.environ and processes != "1":
            raise UserError(
                f"{processes} processes were started ({number}), but the trainer expects one, so each would "
                f"be a run of its own; add --trainer.devices {processes} (of one node, beside --trainer.num_nodes)."
            )


def set_by_hand(model: Namespace) -> dict[str, int]:
    """Return a config's values for network arguments that the data set, by option, where they are not defaults."""
    arguments = model.get("init_args") or Namespace()
    teacher = arguments.get("teacher")
    networks = {"network": arguments.get("network")}
    if isinstance(teacher, Namespace):
        networks["teacher.network"] = teacher.init_args.get("network")
    return {
        f"--model.{option}.{name}": value
        for option, network in networks.items()
        if isinstance(network, Namespace)
        for name, value in (network.get("init_args") or Namespace()).items()
        if name in FROM_DATA and value != _default(network.class_path, name)
    }


def check_against_data(by_hand: dict[str, int], data: ImageDataModule) -> None:
    """Refuse a value that the data would override.

    Args:
        by_hand: The result of ``set_by_hand``.
        data: The data.

    Raises:
        UserError: A value differs from that of the data.
    """
    for option, value in by_hand.items():
        name = option.rpartition(".")[2]
        if value != getattr(data, name):
            raise UserError(
                f"{option} is {value}, but the data has {getattr(data, name)}, for which networks are built; leave the "
                "option out, or give other data."
            )


def _default(class_path: str, name: str) -> Any:
    parameter = inspect.signature(resolve_name(class_path)).parameters.get(name)
    return None if parameter is None else parameter.default


def print_dropped_settings(own: Namespace) -> None:
    """Print which settings of a config's task are dropped, because an option or a later config names another class."""
    taken = own.model.get("init_args") or {}
    for config in own.get("config") or []:
        model = read_yaml(Path(config.absolute)).get("model")
        given = model.get("init_args") if isinstance(model, dict) else None
        if dropped := [name for name in given or () if name not in taken]:
            kind = own.model.class_path.rpartition(".")[2]
            name = Path(config.relative).name
            print_rank_zero(f"Settings: {kind} replaces the task of {name}, whose {', '.join(dropped)} are dropped.")
