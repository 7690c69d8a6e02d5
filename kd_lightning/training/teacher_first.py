"""Distillation in one command: find the teacher that a config means, or train it first."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from kd_lightning.errors import UserError
from kd_lightning.files import written_whole
from kd_lightning.machine import stopping
from kd_lightning.networks.weights import read_weights
from kd_lightning.training.config_files import find_config, newest_first, run_name
from kd_lightning.training.console import say
from kd_lightning.training.parser import plain
from kd_lightning.wording import epochs_in_words

Fit = Callable[[Sequence[str]], Path]
"""Runs ``fit`` with arguments and returns the weights file that it wrote."""


def teacher_settings(config: Namespace) -> Namespace | None:
    """Return the teacher's part of a command's config, where it has one."""
    arguments = config.model.get("init_args") or Namespace()
    teacher = arguments.get("teacher")
    return teacher.init_args if isinstance(teacher, Namespace) else None


def find_teacher(settings: Namespace, logs: Path, allowed: Callable[[], str] | None = None) -> Path | None:
    """Return the teacher's weights: the file that is named, or else the newest that its config's runs have written.

    Args:
        settings: The teacher's part of the config.
        logs: Folder of all runs.
        allowed: Gives the limits that a teacher's run would have now. Weights that nobody has named count only if
            their own run had no limits, or these; all count where it is not given.
    """
    if settings.weights is not None:
        named = Path(settings.weights)
        return named if named.is_file() else None
    left_out = False
    for path in newest_weights(logs / run_name(Path(settings.config))):
        info = None if allowed is None else read_weights(path)[1]
        if allowed is None or info is None or info.limits in ("", allowed()):
            return path
        if not left_out:
            reason = f"its training was cut short by {info.limits}"
            say(f"Teacher: {path} is left out, for {reason}; name it with --model.teacher.weights to take it.")
        left_out = True
    return None


def newest_weights(runs: Path) -> Iterator[Path]:
    """Give a ``.pth`` of each of the runs ``version_N`` in a folder that has one, the newest first."""
    for run in newest_first(runs):
        yield from sorted(run.glob("[!.]*.pth"))[:1]


def overrides(parser: LightningArgumentParser, own: Namespace) -> dict[str, Any]:
    """Return what another run takes over: the data, the seed, and what was changed of the config's trainer.

    It sees views of its own: their number is there for the teacher that is asked about them, and costs one who learns
    from labels.

    Args:
        parser: Of ``fit``.
        own: The resolved config of the distillation.
    """
    resolved = plain(parser, own)
    resolved["data"].get("init_args", {}).pop("views", None)
    configs = own.get("config") or []
    base = parser.parse_args(["--config", str(configs[0].absolute)]) if configs else parser.get_defaults()
    unchanged = plain(parser, base)["trainer"]
    changed = {key: value for key, value in resolved["trainer"].items() if value != unchanged.get(key)}
    for key in ("callbacks", "logger"):
        changed.pop(key, None)
    return {"seed_everything": resolved["seed_everything"], "data": resolved["data"], "trainer": changed}


@contextmanager
def fit_options(settings: Namespace, changes: dict[str, Any]) -> Iterator[list[str]]:
    """Give the options of the teacher's own ``fit``.

    Args:
        settings: The teacher's part of the config.
        changes: What takes precedence over the teacher's config: what ``overrides`` gives.
    """
    with tempfile.TemporaryDirectory() as folder:
        overlay = Path(folder, "overrides.yaml")
        overlay.write_text(yaml.safe_dump(changes), encoding="utf-8")
        yield ["--config", str(find_config(settings.config)), "--config", str(overlay)]


def train_teacher(settings: Namespace, logs: Path, changes: dict[str, Any], fit: Fit) -> Path:
    """Train the teacher with its config and return its weights file.

    Args:
        settings: The teacher's part of the config.
        logs: Folder of all runs.
        changes: Those of ``fit_options``.
        fit: Runs ``fit``.
    """
    target = settings.weights or f"{logs / run_name(Path(settings.config))}/version_*/*.pth"
    say(f"There is no teacher yet: {settings.config} trains one first and writes it to {target}.")
    with fit_options(settings, changes) as options, stopping.followed_by(_afterwards(settings)):
        weights = fit(["fit", *options])
    if settings.weights is None:
        return weights
    _copy(weights, Path(settings.weights))
    return Path(settings.weights)


def _afterwards(settings: Namespace) -> str:
    """Say what is to be done when a teacher's run that was stopped has gone on to its end."""
    placed = "" if settings.weights is None else f"copy its weights to {settings.weights} and "
    return f"\nThat is the teacher. Then {placed}give the first command again."


@rank_zero_only
def _copy(source: Path, target: Path) -> None:
    with written_whole(target) as temporary:
        shutil.copyfile(source, temporary)


def print_weights(what: str, weights: Path) -> None:
    """Print which teacher or student is used and how good it is."""
    _, info = read_weights(weights)
    if info is None:
        say(f"{what}: {weights} (a bare state dict; its accuracy is measured at the end)")
        return
    network = info.network.rpartition(".")[2]
    accuracy = "not measured" if info.accuracy is None else f"{100 * info.accuracy:.2f} %"
    time = "" if info.epochs is None else f" for {epochs_in_words(info.epochs, info.limits)}"
    say(f"{what}: {weights} ({network} trained on {info.data}{time}, test accuracy {accuracy})")


def require_teacher(settings: Namespace, logs: Path) -> Path:
    """Return the teacher's weights for a command that does not train.

    Raises:
        UserError: There are none.
    """
    weights = find_teacher(settings, logs)
    if weights is None:
        place = settings.weights or logs / run_name(Path(settings.config))
        raise UserError(
            f"there is no teacher at {place}; train it with `python -m kd_lightning fit --config {settings.config}`, "
            "or name its file with --model.teacher.weights."
        )
    return weights
