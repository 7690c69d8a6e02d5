"""What a run depends on, as one key: two runs with the same key give the same numbers."""

import inspect
import re
from collections.abc import Iterator
from copy import deepcopy
from functools import cache
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import torch
import yaml
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from torch import Tensor

from kd_lightning.callbacks import ExportONNX, QuantizeONNX, SaveWeights
from kd_lightning.data import ImageDataModule
from kd_lightning.weights import read_weights

PACKAGE = Path(__file__).parents[1]
NEVER_TRAINS = ("benchmark", "commands", "compare", "export", "prediction")
"""Folders whose code takes no part in a run, except ``compare/measure.py``: a new report asks for no new runs."""

LEFT_OUT = (ExportONNX, QuantizeONNX, SaveWeights, Checkpoint, ProgressBar)
"""Callbacks that a study leaves out of a config: it keeps the weights itself, and exports one run of a row."""

SILENT = ("logger", "default_root_dir", "devices", "profiler", "log_every_n_steps")
"""The trainer's options that change no number of a run; so do those that begin with ``enable_``."""

PATHS = ("root", "cache_dir", "mirrors")
"""The data's options that say where it lies: what it is, its fingerprint says."""


ADDRESS = re.compile(r" at 0x[0-9a-f]+")
"""What the text of an object that is no plain value, such as a lambda in a signature, holds of one process alone."""


def run_key(config: dict[str, Any], seed: int, *, data: dict[str, str], teacher: Path | None, threads: int) -> str:
    """Return the key of a run.

    Args:
        config: The resolved config.
        seed: The run's seed.
        data: The data's fingerprint.
        teacher: Weights of the study's teacher, where the run learns from it.
        threads: CPU threads of the run.
    """
    matters = relevant(config, learns=teacher is not None)
    parts = {
        "config": matters,
        "seed": seed,
        "data": data,
        "teacher": None if teacher is None else weights_hash(teacher),
        "code": code_version(tuple(sorted(set(_class_paths(matters))))),
        "device": [
            str(torch.accelerator.current_accelerator()) if torch.accelerator.is_available() else "cpu",
            threads,
        ],
    }
    text = yaml.safe_dump(parts, sort_keys=True)  # which has a form for all that a config can hold, dates and NaN too
    return blake2b(ADDRESS.sub("", text).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def relevant(config: dict[str, Any], *, learns: bool) -> dict[str, Any]:
    """Return what of a config can change the numbers of a run.

    Args:
        config: The resolved config.
        learns: Whether the run learns from the study's teacher, whose weights say all about it.
    """
    kept = {name: deepcopy(config[name]) for name in ("data", "model", "trainer")}
    kept["trainer"]["callbacks"] = own_callbacks(config["trainer"]["callbacks"])
    for name in [name for name in kept["trainer"] if name in SILENT or name.startswith("enable_")]:
        del kept["trainer"][name]
    for name in PATHS:
        kept["data"].get("init_args", {}).pop(name, None)
    if learns:
        for name in ("weights", "config"):
            kept["model"]["init_args"]["teacher"]["init_args"].pop(name, None)
    return kept


def own_callbacks(callbacks: Any) -> list[Any]:
    """Return the callbacks of a config, as plain values or as parsed, that a study runs too."""
    entries = callbacks if isinstance(callbacks, list) else [callbacks] if callbacks else []
    return [entry for entry in entries if not issubclass(resolve_name(entry["class_path"]), LEFT_OUT)]


def fingerprint(data: ImageDataModule) -> dict[str, str]:
    """Return a hash of each part of the data: class names, pixels, labels, and which rows train, validate and test."""
    parts = {"train": data.train_rows(), "test": data.test_rows()} | ({"val": data.val_rows()} if data.has_val else {})
    sets = {id(images): _hash(*images) for images, _ in parts.values()}
    hashes = {name: f"{sets[id(images)]} {_hash(rows)}" for name, (images, rows) in parts.items()}
    return {"classes": " | ".join(data.class_names), **hashes}


def weights_hash(path: Path) -> str:
    """Return a hash of a file's weights, whatever else it says."""
    weights, _ = read_weights(path)
    return _hash(*(weights[name] for name in sorted(weights)))


def _hash(*tensors: Tensor) -> str:
    digest = blake2b(digest_size=16)
    for tensor in tensors:
        digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


@cache
def code_version(class_paths: tuple[str, ...]) -> str:
    """Return a hash of the code of a run: this package's, that of the classes that are named, and the libraries'.

    Args:
        class_paths: Import paths of the classes in a config, those of a user's own among them.
    """
    files = [path for path in sorted(PACKAGE.rglob("*.py")) if _takes_part(path.relative_to(PACKAGE))]
    own = [path for name in class_paths if (path := _source(name)) and PACKAGE not in path.parents]
    digest = blake2b(digest_size=16)
    for path in (*files, *own):
        digest.update(path.read_bytes())
    for name in ("torch", "torchvision", "lightning", "torchmetrics"):
        digest.update(version(name).encode())
    return digest.hexdigest()


def _takes_part(path: Path) -> bool:
    return path.parts[0] not in NEVER_TRAINS or path == Path("compare", "measure.py")


def _source(class_path: str) -> Path | None:
    try:
        return Path(inspect.getfile(resolve_name(class_path)))
    except (TypeError, OSError, AttributeError, ImportError, ValueError):
        return None  # not written in Python


def _class_paths(values: Any) -> Iterator[str]:
    """Give every ``class_path`` in nested plain values."""
    if isinstance(values, dict):
        if isinstance(values.get("class_path"), str):
            yield values["class_path"]
        values = list(values.values())
    for value in values if isinstance(values, list) else ():
        yield from _class_paths(value)
