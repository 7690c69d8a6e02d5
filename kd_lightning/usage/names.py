"""The names of a command's options, read from the sources, and the slips that people make with them."""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from kd_lightning.listing.classes import ClassSource, Option, find_class
from kd_lightning.listing.source import read

TRAINER = "pytorch/trainer/trainer.py"
"""Lightning's file with its trainer."""

EVERYWHERE = ("help",)
OF_CONFIGS = ("config", "print_config", "seed_everything", "trainer", "model", "data", "files", "baseline", "quiet")
STUDY_ONLY = (
    "compared",
    "options",
    "teachers",
    "seeds",
    "first_seed",
    "tuning_seeds",
    "looks",
    "jobs",
    "threads",
    "onnx",
    "engine",
    "slurm",
    "ray",
)
"""Options of ``compare`` that no other command has."""

TOP: dict[str, tuple[str, ...]] = {
    "fit": (*EVERYWHERE, *OF_CONFIGS, "ckpt_path"),
    "validate": (*EVERYWHERE, *OF_CONFIGS, "ckpt_path", "verbose"),
    "test": (*EVERYWHERE, *OF_CONFIGS, "ckpt_path", "verbose"),
    "compare": (
        *(*EVERYWHERE, "config", "print_config", "trainer", "model", "data", "baseline", "teacher", "output"),
        *STUDY_ONLY,
    ),
    "benchmark": (*EVERYWHERE, *OF_CONFIGS, "output", "steps", "rounds", "workers", "images"),
    "data": (*EVERYWHERE, "data", "output"),
    "stats": (*EVERYWHERE, "data"),
    "export": (
        *(*EVERYWHERE, "data", "model", "network", "output", "variants", "web", "logits", "runtime", "preprocess"),
        *("max_difference", "max_drop", "measure_speed", "layers", "reduce_range", "calibration_images"),
    ),
}
"""The options of each command that takes settings, up to the first dot."""

FLAGS = ("--quiet",)
"""Options without a value."""

WITH_TASK = ("fit", "validate", "test", "benchmark")
"""The commands that take one task in ``--model``; in ``compare`` each row has its own."""

OPTIMIZER = ("lr", "weight_decay", "momentum", "betas", "eps")
"""Usual options of optimizers, which are not read."""

MEANT = {
    **dict.fromkeys(("epochs", "epoch", "num_epochs", "n_epochs", "max_epoch"), "max_epochs"),
    **dict.fromkeys(("steps", "max_iter", "iterations"), "max_steps"),
    **dict.fromkeys(("learning_rate", "lr_rate"), "lr"),
    **dict.fromkeys(("bs", "batch", "batchsize"), "batch_size"),
    **dict.fromkeys(("seed", "random_seed"), "seed_everything"),
    **dict.fromkeys(("resume", "checkpoint", "ckpt", "resume_from_checkpoint"), "ckpt_path"),
    **dict.fromkeys(("T", "temp", "tau"), "temperature"),
    **dict.fromkeys(("gpus", "num_gpus"), "devices"),
    **dict.fromkeys(("device", "gpu"), "accelerator"),
    **dict.fromkeys(("scheduler", "schedule"), "lr_scheduler"),
    **dict.fromkeys(("loss",), "losses"),
    **dict.fromkeys(("student",), "network"),
    **dict.fromkeys(("augmentations", "transforms", "transform"), "augment"),
    **dict.fromkeys(("wd",), "weight_decay"),
    **dict.fromkeys(("dataset", "datamodule"), "data"),
}
"""What other programs call an option, and its name here."""


@cache
def trainer_source() -> ClassSource | None:
    """Return Lightning's trainer, read without importing it; ``None`` where its file is elsewhere."""
    spec = find_spec("lightning")
    roots = [] if spec is None else spec.submodule_search_locations or []
    for file in (Path(root) / TRAINER for root in roots):
        module = read(file, "lightning.pytorch.trainer.trainer") if file.is_file() else None
        node = module.names.get("Trainer") if module else None
        if module and isinstance(node, ast.ClassDef):
            return ClassSource(module, node)
    return None


def options_of(source: ClassSource | None) -> tuple[str, ...] | None:
    """Return the names of a class's options; ``None`` where they are not known."""
    return tuple(option.name for option in source.options) if source and source.options else None


def files_options() -> tuple[Option, ...]:
    """Return the options of ``--files``."""
    source = find_class("kd_lightning.training.run_files.RunFiles")
    assert source is not None
    return source.options


@cache
def _own_sources() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in _package_files())


def _package_files() -> Iterator[Path]:
    yield from Path(__file__).parents[1].rglob("*.py")


def is_own_class(name: str) -> bool:
    """Return whether this package has a class of a name, public or not: a config may name each that is imported."""
    return f"class {name}(" in _own_sources() or f"class {name}:" in _own_sources()


def has_other_classes() -> bool:
    """Return whether classes of the user's may be imported already, as in a notebook."""
    return "torch" in sys.modules
