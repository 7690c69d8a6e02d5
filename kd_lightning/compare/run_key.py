"""The key of a run, a hash of all that it depends on: runs with the same key give the same numbers.

This package's own version is not in it: a run's results note it (``Run.made_by``), and reports name other versions.
"""

import json
import os
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from copy import deepcopy
from itertools import chain
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import torch
import yaml
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from torch import Tensor

from kd_lightning.callbacks import ExportONNX, QuantizeONNX, SaveWeights
from kd_lightning.data import ImageDataModule
from kd_lightning.digest import digest
from kd_lightning.files import file_digest
from kd_lightning.networks.weights import read_weights
from kd_lightning.sources import library_version, own_modules, used_by

NUMERIC = ("torch", "torchvision", "lightning", "torchmetrics", "numpy", "scipy", "PIL", "timm")
"""The libraries, as they are imported, that any run's numbers depend on."""

SETTINGS = ("ATEN_CPU_CAPABILITY", "DNNL_MAX_CPU_ISA", "ONEDNN_MAX_CPU_ISA", "MKL_CBWR", "NVIDIA_TF32_OVERRIDE")
"""Environment variables that change the arithmetic."""

LEFT_OUT = (ExportONNX, QuantizeONNX, SaveWeights, Checkpoint, ProgressBar)
"""Callbacks that a study removes from a config: it saves the weights itself, and exports one run of a row."""

SILENT = ("logger", "default_root_dir", "devices", "profiler", "log_every_n_steps")
"""The trainer's options that change no number of a run, besides those that begin with ``enable_``."""

PATHS = ("root", "path", "unlabelled", "cache_dir", "mirrors")
"""The data's options that locate it; the fingerprint covers its content."""

ADDRESS = re.compile(r" at 0x[0-9a-f]+")
"""The address in an object's ``repr``, such as a lambda's in a signature; it differs between processes."""


class KeyOfRow:
    """Gives the keys of a row's runs; what they share is prepared once, as a study may have a thousand of them.

    Args:
        config: The resolved config.
        data: The data's fingerprint.
        learns: Whether the runs learn from the study's teacher.
        threads: CPU threads of each run.
        code: The digest of their code, from ``code_digests``.
    """

    def __init__(self, config: dict[str, Any], *, data: dict[str, str], learns: bool, threads: int, code: str) -> None:
        matters = relevant(config, learns=learns)
        device = [*_devices(), threads, [os.environ.get(name) for name in SETTINGS]]
        self._files = _files(matters)
        self._shared = _as_yaml({"config": matters, "data": data, "code": code, "device": device})

    def of(self, seed: int, teacher: str | None) -> str:
        """Return the key of one run.

        Args:
            seed: The run's seed.
            teacher: The hash of the weights of the study's teacher, where the run learns from it.
        """
        parts = {
            "files": {text: file_digest(Path(text)) for text in self._files},
            "seed": seed,
            "teacher": teacher,
        }
        text = self._shared + _as_yaml(parts)  # sorted by name: all that is shared comes before the files
        return digest(text.encode("utf-8", "surrogatepass"), size=16)


def _as_yaml(parts: dict[str, Any]) -> str:
    """Return values as text; unlike JSON, YAML also takes dates and NaN."""
    return ADDRESS.sub("", yaml.safe_dump(parts, sort_keys=True))


def _devices() -> list[str]:
    """Return the CPU's instruction set and the accelerator."""
    found = [torch.backends.cpu.get_cpu_capability()]
    if torch.accelerator.is_available():
        found.append(str(torch.accelerator.current_accelerator()))
    return [*found, torch.cuda.get_device_name()] if torch.cuda.is_available() else found


def _files(config: dict[str, Any]) -> list[str]:
    """Return the texts in a config's model and trainer that name files, such as weights to begin with."""
    return sorted(text for text in set(_texts([config["model"], config["trainer"]])) if _is_file(text))


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # not a path
        return False


def relevant(config: dict[str, Any], *, learns: bool) -> dict[str, Any]:
    """Return the part of a config that can change the numbers of a run.

    Args:
        config: The resolved config.
        learns: Whether the run learns from the study's teacher, which its weights identify.
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
    return {"classes": json.dumps(data.class_names), **hashes}


def weights_hash(path: Path) -> str:
    """Return a hash of a file's weights without its metadata."""
    weights, _ = read_weights(path)
    return _hash(*(weights[name] for name in sorted(weights)))


def _hash(*tensors: Tensor) -> str:
    parts = ((f"{tuple(tensor.shape)} {tensor.dtype}".encode(), tensor) for tensor in tensors)
    return digest(*chain.from_iterable(parts), size=16)


def code_digests(configs: Mapping[str, dict[str, Any]], lazily: Collection[str]) -> dict[str, str]:
    """Return a digest of the code of each row besides this package: the user's own modules, and libraries' versions.

    Args:
        configs: The config of each row, by its name; the row has been built, which has imported its code.
        lazily: The modules that building the rows has imported. Those of the user's own that no row is seen to use, as
            a module of which only numbers are taken, count for each row that uses any.
    """
    used, files = {name: used_by(_named_modules(config)) for name, config in configs.items()}, own_modules()
    unseen = (files.keys() & lazily).difference(*(own for own, _ in used.values()))
    digests = {module: file_digest(files[module]) for module in unseen.union(*(own for own, _ in used.values()))}
    return {
        name: _code_digest({module: digests[module] for module in (own | unseen if own else own)}, libraries)
        for name, (own, libraries) in used.items()
    }


def _code_digest(own: Mapping[str, str], libraries: set[str]) -> str:
    return digest(sorted(own.items()), *map(library_version, sorted({*NUMERIC, *libraries})), size=16)


def _named_modules(config: dict[str, Any]) -> set[str]:
    return {module for text in _texts(relevant(config, learns=False)) for module in _loaded_module(text)}


def _loaded_module(text: str) -> Iterator[str]:
    """Give the module in which the class or function lies that a text names, where it names one."""
    names = text.split(".")
    inner = next((count for count in range(len(names) - 1, 0, -1) if ".".join(names[:count]) in sys.modules), 0)
    if inner:
        module = sys.modules[".".join(names[:inner])]
        yield module.__name__
        yield getattr(getattr(module, names[inner], None), "__module__", None) or module.__name__


def _texts(values: Any) -> Iterator[str]:
    """Give every text in nested plain values."""
    if isinstance(values, str):
        yield values
    elif isinstance(values, dict | list):
        for value in values.values() if isinstance(values, dict) else values:
            yield from _texts(value)
