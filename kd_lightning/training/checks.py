"""The checks before a start: of settings that would otherwise give a wrong run without an error."""

import inspect
import os
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import torch
from jsonargparse import Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy

from kd_lightning.data import ImageDataModule
from kd_lightning.data.published import local_file
from kd_lightning.errors import UserError
from kd_lightning.training.console import print_rank_zero
from kd_lightning.training.suggest import FROM_DATA
from kd_lightning.training.yaml_check import read_yaml

LAUNCHERS = {
    "TORCHELASTIC_RUN_ID": "WORLD_SIZE",
    "SLURM_STEP_ID": "SLURM_STEP_NUM_TASKS",
    "OMPI_COMM_WORLD_RANK": "OMPI_COMM_WORLD_SIZE",
}
"""Environment variables of ``torchrun``, ``srun`` and ``mpirun``, and the variable with the number of processes."""

SPLITS_NETWORKS = (FSDPStrategy, ModelParallelStrategy, DeepSpeedStrategy)
"""Strategies whose processes have a part of a network each."""

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

WHILE_TRAINING = ("dropout",)
"""Arguments of a network that do not change a frozen one."""


def teacher_settings(config: Namespace) -> Namespace | None:
    """Return the teacher's part of a command's config, where it has one."""
    teacher = _arguments(config.model).get("teacher")
    return teacher.init_args if isinstance(teacher, Namespace) else None


def check_config(own: Namespace, command: str) -> None:
    """Check a command's config before anything is built, and print which settings it drops.

    Args:
        own: The resolved config.
        command: ``fit``, ``validate`` or ``test``.

    Raises:
        UserError: An option is wrong; the message names it.
    """
    check_work(own, command)
    check_trainer(own.trainer)
    check_teacher_file(own)
    print_dropped_settings(own)


def check_built(own: Namespace, trainer: Trainer, data: ImageDataModule) -> None:
    """Check what a config has built, before it runs.

    Raises:
        UserError: Something does not fit the config; the message names it.
    """
    check_processes(trainer)
    check_against_data(own.model, data)


def check_work(own: Namespace, command: str) -> None:
    """Refuse a command that trains or measures nothing; a resumed run may have done all its steps already."""
    for name in NO_WORK[command]:
        goes_on = name.startswith("max_") and own.get("ckpt_path") is not None
        if own.trainer[name] == 0 and not goes_on:
            done = "trained" if command == "fit" else "measured"
            raise UserError(f"--trainer.{name} is 0, so that nothing would be {done}; set it to 1 or more.")


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
    if _arguments(profiler).get("emit_nvtx") and not torch.cuda.is_available():  # torch's error leaves a traceback
        raise UserError("--trainer.profiler.emit_nvtx is true, but this machine has no NVIDIA GPU; leave it out.")


def check_teacher_file(own: Namespace) -> None:
    """Refuse a named file with the teacher's weights that does not exist."""
    settings = teacher_settings(own)
    if settings is not None and settings.weights is not None and not local_file(settings.weights).is_file():
        raise UserError(
            f"--model.teacher.weights is {settings.weights}, which is not a file; leave it out, and fit trains the "
            f"teacher first, or train it with `kd-lightning fit --config {settings.config}`."
        )


def print_dropped_settings(own: Namespace) -> None:
    """Print which settings of a config's task are dropped, because an option or a later config names another class."""
    for config in own.get("config") or []:
        path = Path(config.relative)
        model = read_yaml(path).get("model")
        given = model.get("init_args") if isinstance(model, dict) else None
        if dropped := [name for name in given or () if name not in _arguments(own.model)]:
            kind = own.model.class_path.rpartition(".")[2]
            print_rank_zero(
                f"Settings: {kind} replaces the task of {path.name}, whose {', '.join(dropped)} are dropped."
            )


def check_processes(trainer: Trainer) -> None:
    """Refuse processes of a launcher that are not connected, each of which would be a run of its own; and FSDP."""
    if isinstance(trainer.strategy, SPLITS_NETWORKS):
        raise UserError(
            f"{type(trainer.strategy).__name__} splits a network over several GPUs, but teacher caches, files and "
            "export need whole ones; leave --trainer.strategy out, or set it to ddp."
        )
    for mark, number in LAUNCHERS.items():
        processes = os.environ.get(number, "1")
        if trainer.world_size == 1 and mark in os.environ and processes != "1":
            raise UserError(
                f"{processes} processes were started ({number}), but the trainer expects one, so each would "
                f"be a run of its own; add --trainer.devices {processes} (of one node, beside --trainer.num_nodes)."
            )


def check_against_data(model: Namespace, data: ImageDataModule) -> None:
    """Refuse a network's argument that the data has overridden with another value."""
    networks = {"network": _arguments(model).get("network")}
    if isinstance(teacher := _arguments(model).get("teacher"), Namespace):
        networks["teacher.network"] = _arguments(teacher).get("network")
    for option, network in networks.items():
        given = _arguments(network) if isinstance(network, Namespace) else Namespace()
        for name in (name for name in FROM_DATA if name in given):
            if given[name] not in (_default(network.class_path, name), getattr(data, name)):
                raise UserError(
                    f"--model.{option}.{name} is {given[name]}, but the data has {getattr(data, name)}, for which "
                    "networks are built; leave the option out, or give other data."
                )


def _arguments(settings: Namespace) -> Namespace:
    return settings.get("init_args") or Namespace()


def _default(class_path: str, name: str) -> Any:
    parameter = inspect.signature(resolve_name(class_path)).parameters.get(name)
    return None if parameter is None else parameter.default


def check_network(settings: Namespace, config: Namespace) -> None:
    """Refuse a teacher's config that trains another network than the teacher's, or that needs itself.

    Args:
        settings: The teacher's part of the config of a distillation.
        config: The config that trains it.

    Raises:
        UserError: It does.
    """
    trained, name = _arguments(config.model).get("network"), settings.config
    if isinstance(trained, Namespace) and _described(trained) != _described(settings.network):
        raise UserError(
            f"the teacher is to be {_described(settings.network)}, but {name} trains {_described(trained)}; name a "
            "config that trains it with --model.teacher.config, its weights with --model.teacher.weights, or the other "
            "network with --model.teacher.network."
        )
    teacher = teacher_settings(config)
    if teacher is not None and teacher.config == name:
        raise UserError(
            f"{name} trains a teacher with {name} first, without end; name another config with --model.teacher.config, "
            "or weights with --model.teacher.weights."
        )


def _described(network: Namespace) -> str:
    values: dict[str, Any] = {**_arguments(network)}
    of_weights = [name for name in sorted(values) if name not in (*FROM_DATA, *WHILE_TRAINING)]
    return f"{network.class_path.rpartition('.')[2]}({', '.join(f'{name}={values[name]}' for name in of_weights)})"
