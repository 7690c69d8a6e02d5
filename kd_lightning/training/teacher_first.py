"""Distillation in one command: find the config's teacher, or train it first."""

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from kd_lightning.errors import UserError
from kd_lightning.files import atomic_write
from kd_lightning.machine import stopping
from kd_lightning.networks.torch_file import read_file
from kd_lightning.networks.weights import read_weights
from kd_lightning.tasks.distill import TEACHER_KEY
from kd_lightning.training.config_files import find_config, run_name
from kd_lightning.training.console import print_rank_zero
from kd_lightning.training.parser import plain
from kd_lightning.training.reuse import find_run, newest_weights, wanted_by
from kd_lightning.training.yaml_check import read_yaml
from kd_lightning.wording import epochs_in_words

Fit = Callable[[Sequence[str]], Path]
"""Runs ``fit`` with arguments and returns the weights file that it wrote."""

HELP = """Train a network, with or without a teacher; test it, export it, summarize. A missing teacher is trained
first, and so is the student without a teacher (--baseline): each by its own config, with this run's data and seed, and
with the --trainer options that are given on the command line or in a second config. A finished run of its config is
reused where each of its settings equals that config's or this run's; a line names what differs where none is.
--model.teacher.weights takes any file."""

HOW_SEEN = ("augment", "batch_size", "drop_last", "normalize", "shuffle_seed", "split_seed", "val_size")
"""The data's options that set how images are trained on, not which images they are."""


def teacher_settings(config: Namespace) -> Namespace | None:
    """Return the teacher's part of a command's config, where it has one."""
    arguments = config.model.get("init_args") or Namespace()
    teacher = arguments.get("teacher")
    return teacher.init_args if isinstance(teacher, Namespace) else None


def find_teacher(parser: LightningArgumentParser, own: Namespace, logs: Path) -> Path | None:
    """Return the teacher's weights: the named file, or else those of a matching run of its config.

    A run matches where each of its settings equals the teacher's config or this run's options, as for a teacher that is
    trained now. Its images must be this run's; its random seed may be any.

    Args:
        parser: Of ``fit``.
        own: The resolved config of a command, with a teacher.
        logs: Folder of all runs.
    """
    settings = teacher_settings(own)
    assert settings is not None
    if settings.weights is not None:
        named = Path(settings.weights)
        return named if named.is_file() else None
    changes = overrides(parser, own)
    data = changes["data"]
    images = {name: value for name, value in data.get("init_args", {}).items() if name not in HOW_SEEN}
    apart = {"data": {"class_path": data["class_path"], "init_args": images}}
    configs = (plain(parser, resolved(parser, settings.config, given)) for given in (changes, apart))
    remedy = "; --model.teacher.weights takes its file all the same"
    wanted = wanted_by(*configs) | {"seed_everything": None}
    found = find_run(logs / run_name(Path(settings.config)), wanted, "Teacher", remedy)
    if (
        found is not None
        and (seed := read_yaml(found.with_name("config.yaml"))["seed_everything"]) != own.seed_everything
    ):
        print_rank_zero(f"Teacher: {found} was trained with seed {seed}; a teacher serves all random seeds.")
    return found


def overrides(parser: LightningArgumentParser, own: Namespace) -> dict[str, Any]:
    """Return the settings that another run takes over: the data, the seed, and changes of the config's trainer.

    The number of augmented views is not taken over: it lets a teacher's outputs be cached, and a network that learns
    from labels would lose by it.

    Args:
        parser: Of ``fit``.
        own: The resolved config of the distillation.
    """
    values = plain(parser, own)
    values["data"].get("init_args", {}).pop("views", None)
    configs = own.get("config") or []
    base = parser.parse_args(["--config", str(configs[0].absolute)]) if configs else parser.get_defaults()
    unchanged = plain(parser, base)["trainer"]
    changed = {key: value for key, value in values["trainer"].items() if value != unchanged.get(key)}
    for key in ("callbacks", "logger", "limit_test_batches"):  # it is tested on all images, as other runs may reuse it
        changed.pop(key, None)
    return {"seed_everything": values["seed_everything"], "data": values["data"], "trainer": changed}


@contextmanager
def fit_options(config: str, changes: dict[str, Any]) -> Iterator[list[str]]:
    """Yield the options of a ``fit`` that runs before this one.

    Args:
        config: Its config.
        changes: The result of ``overrides``, which takes precedence over the config.
    """
    with tempfile.TemporaryDirectory() as folder:
        overlay = Path(folder, "overrides.yaml")
        overlay.write_text(yaml.safe_dump(changes), encoding="utf-8")
        yield ["--config", str(find_config(config)), "--config", str(overlay)]


def resolved(parser: LightningArgumentParser, config: str, changes: dict[str, Any]) -> Namespace:
    """Return the resolved config of the options of ``fit_options``."""
    with fit_options(config, changes) as options:
        return parser.parse_args(options)


def train_teacher(settings: Namespace, logs: Path, changes: dict[str, Any], fit: Fit) -> Path:
    """Train the teacher with its config and return its weights file.

    Args:
        settings: The teacher's part of the config.
        logs: Folder of all runs.
        changes: As in ``fit_options``.
        fit: Runs ``fit``.
    """
    target = settings.weights or f"{logs / run_name(Path(settings.config))}/version_*"
    print_rank_zero(f"There is no teacher yet: {settings.config} trains one first and writes it to {target}.")
    with fit_options(settings.config, changes) as options, stopping.followed_by(_afterwards(settings)):
        weights = fit(["fit", *options])
    if settings.weights is None:
        return weights
    _copy(weights, Path(settings.weights))
    return Path(settings.weights)


def _afterwards(settings: Namespace) -> str:
    """Return what to do after a stopped run of the teacher is resumed and has ended."""
    placed = "" if settings.weights is None else f"copy its weights to {settings.weights} and "
    return f"\nThat is the teacher. Then {placed}give the first command again."


@rank_zero_only
def _copy(source: Path, target: Path) -> None:
    with atomic_write(target) as temporary:
        shutil.copyfile(source, temporary)


def print_weights(what: str, weights: Path) -> None:
    """Print the weights of a teacher or baseline, with their accuracy."""
    _, info = read_weights(weights)
    if info is None:
        print_rank_zero(f"{what}: {weights} (a bare state dict; its accuracy is measured at the end)")
        return
    network = info.network.rpartition(".")[2]
    accuracy = "not measured" if info.accuracy is None else f"{100 * info.accuracy:.2f} %"
    time = "" if info.epochs is None else f" for {epochs_in_words(info.epochs, info.limits)}"
    print_rank_zero(f"{what}: {weights} ({network} trained on {info.data}{time}, test accuracy {accuracy})")


def require_teacher(parser: LightningArgumentParser, own: Namespace, logs: Path) -> Path:
    """Return the teacher's weights for a command that does not train it; prefer the checkpoint's own teacher.

    Raises:
        UserError: There are none.
    """
    settings = teacher_settings(own)
    assert settings is not None
    place = settings.weights or logs / run_name(Path(settings.config))
    known = None if settings.weights else _learned_from(own.ckpt_path)
    weights = next((path for path in newest_weights(Path(place)) if str(path) == known), None)
    weights = weights or find_teacher(parser, own, logs)
    if weights is None:
        raise UserError(
            f"there is no teacher at {place} for this config; train it with `python -m kd_lightning fit --config "
            f"{settings.config}`, or name its file with --model.teacher.weights."
        )
    return weights


def _learned_from(checkpoint: str | None) -> str | None:
    """Return the teacher's path in a checkpoint; it is untrusted, and only compared with paths of our own runs."""
    content = None if checkpoint is None else read_file(Path(checkpoint))
    teacher = content.get(TEACHER_KEY) if isinstance(content, Mapping) else None
    return teacher.get("weights") if isinstance(teacher, Mapping) else None
