"""Reuse a finished run as the teacher or the baseline, where it was trained with the requested settings."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from kd_lightning.errors import UserError
from kd_lightning.networks.weights import ENDINGS, read_weights
from kd_lightning.training.config_files import newest_first
from kd_lightning.training.console import print_rank_zero
from kd_lightning.training.suggest import FROM_DATA
from kd_lightning.training.yaml_check import read_yaml
from kd_lightning.wording import shortened

Accepted = Mapping[str, Sequence[Any] | None]
"""For each option that changes training: the accepted values, a new run's first; ``None``: any."""

SILENT = (
    *(f"trainer.{name}" for name in ("default_root_dir", "enable_", "log_every_n_steps", "logger", "profiler")),
    *("trainer.limit_test_batches", "trainer.limit_predict_batches", "data.eval_batch_size", "data.cache_dir"),
    *("model.fast", "model.compiled", "model.cache_teacher"),
)
"""How the names of options that do not change training begin."""

ONLY_LOOK = ("Monitor", "ProgressBar", "ModelSummary", "Checkpoint")
"""How the names of Lightning's callbacks that do not change training end; none of ours changes it."""


def accepted_by(*configs: Mapping[str, Any]) -> dict[str, Sequence[Any] | None]:
    """Return the accepted values of each option: those of any of some configs of ``fit``, given as plain values."""
    several = [settings(config) for config in configs]
    accepted = {name: [values.get(name) for values in several] for name in dict.fromkeys(chain(*several))}
    return {name: None if _is_found(name, values[0]) else values for name, values in accepted.items()}


def _is_found(name: str, value: Any) -> bool:
    """Return whether a run's own config names what was found: a teacher's file, or its network's sizes of the data."""
    is_size = name.endswith(tuple(f".network.{size}" for size in FROM_DATA))
    is_file = name.endswith(".weights") and value is None
    return name.startswith("model.teacher.") and (is_size or is_file)


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a config that change training, by option: ``{"model.network.width": 16}``."""
    parts = _flat({name: config[name] for name in ("model", "data", "trainer", "seed_everything")})
    kept = {name: value for name, value in parts if not name.startswith(SILENT)}
    kept["trainer.callbacks"] = [entry for entry in kept["trainer.callbacks"] or [] if not _only_looks(entry)]
    return kept


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        option = prefix if name in ("class_path", "init_args") else f"{prefix}.{name}".lstrip(".")
        if isinstance(value, dict):
            yield from _flat(value, option)
        else:
            yield option, value


def _only_looks(callback: Mapping[str, Any]) -> bool:
    path = str(callback["class_path"])
    return path.startswith("kd_lightning.") or (path.startswith("lightning.") and path.endswith(ONLY_LOOK))


def find_run(runs: Path, accepted: Accepted, what: str, remedy: str = "") -> Path | None:
    """Return the weights of the newest run that has accepted settings and was tested on all test images.

    Where the newest run of all is not reused, a line explains why.

    Args:
        runs: Folder of the config's runs.
        accepted: The accepted values of each option.
        what: The line's beginning, such as ``Teacher``.
        remedy: The line's end: how to use the run all the same.
    """
    for number, weights in enumerate(newest_weights(runs)):
        reason = _difference(weights, accepted)
        if not reason:
            return weights
        if number == 0:
            print_rank_zero(f"{what}: {weights} is not reused: {reason}{remedy}.")
    return None


def newest_weights(runs: Path) -> Iterator[Path]:
    """Yield a file of weights of each run ``version_N`` in a folder that has one, the newest first."""
    for run in newest_first(runs):
        yield from sorted(path for path in run.glob("[!.]*") if path.suffix in ENDINGS)[:1]


def _difference(weights: Path, accepted: Accepted) -> str:
    """Return a clause that explains why a run is not reused; empty where it is."""
    try:
        info = read_weights(weights)[1]
        trained = settings(read_yaml(weights.with_name("config.yaml")))
    except (UserError, KeyError, TypeError, AttributeError):  # missing, damaged, or of an older version
        return "its files cannot be read"
    if info is None or info.accuracy is None:
        return "it was stopped, or not tested on all test images"
    for name in dict.fromkeys([*accepted, *trained]):
        values = accepted.get(name, [None])
        if values is not None and trained.get(name) not in values:
            return f"it was trained with --{name} {_text(trained.get(name))}, but this run has {_text(values[0])}"
    return ""


def _text(value: Any) -> str:
    return "null" if value is None else shortened(str(value), 200)
