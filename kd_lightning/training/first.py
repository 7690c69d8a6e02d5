"""What a run needs first, its teacher or its baseline: found among the finished runs, or trained now."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from kd_lightning.errors import UserError
from kd_lightning.machine import stopping
from kd_lightning.networks.torch_file import read_file
from kd_lightning.networks.weights import read_weights
from kd_lightning.tasks.checkpoints import TEACHER_KEY
from kd_lightning.training.checks import TeacherPart, check_network, teachers_of
from kd_lightning.training.config_files import first_config, run_name
from kd_lightning.training.console import print_rank_zero
from kd_lightning.training.parser import plain
from kd_lightning.training.reuse import Accepted, accepted_by, find_run, newest_weights
from kd_lightning.training.yaml_check import MAX_BYTES, read_yaml
from kd_lightning.wording import epochs_in_words

HELP = """Train a network, with or without a teacher; test it, export it, summarize. A missing teacher is trained
first, and so is the student without a teacher (--baseline): each by its own config, with this run's data and seed, and
with the --trainer options that are given on the command line or in a second config. A finished run of its config is
reused where each of its settings equals that config's or this run's; a line names what differs where none is.
--model.teacher.weights takes any file."""

BASELINE_HELP = (
    "Config that trains the student without a teacher (baseline). fit runs it first, with this run's data, seed and "
    "trainer options, unless a finished run has the same settings; the summary shows both."
)

HOW_SEEN = ("augment", "batch_size", "drop_last", "normalize", "shuffle_seed", "split_seed", "val_size")
"""The data's options that set how images are trained on, not which images they are."""

NOT_FOR_LABELS = ("views", "unlabelled", "labelled_share")
"""The data's options that serve only a network with a teacher."""

NOT_TAKEN = ("callbacks", "logger", "limit_test_batches")
"""Trainer options that are this run's alone; the other run is tested on all images, as later runs may reuse it."""


@dataclass(frozen=True)
class FirstRun:
    """A run that another one needs first.

    Attributes:
        what: ``Teacher``, with its name where there are several, or ``Baseline``.
        name: Its config.
        config: That config, resolved, with the other run's data and seed, and its changed trainer options.
        accepted: The settings of finished runs that serve as well.
        remedy: The end of a line that explains why a run does not serve.
    """

    what: str
    name: str
    config: Namespace
    accepted: Accepted
    remedy: str = ""


def find_or_train(
    parser: LightningArgumentParser,
    own: Namespace,
    logs: Path,
    check: Callable[[], None],
    train: Callable[[Namespace], Path],
) -> dict[str, Path]:
    """Return the weights of a fit's teachers, of which no file is named, and of its ``Baseline``, by their names.

    They are those of the newest finished run that serves, or else of one that is trained now. A smoke test trains none.

    Args:
        parser: Of ``fit``.
        own: The resolved config of the fit.
        logs: Folder of all runs.
        check: Checks that fit before anything is trained for it.
        train: Runs ``fit`` with a resolved config and returns the weights file that it wrote.

    Raises:
        UserError: A config is missing or wrong, or trains another network than the teacher's.
    """
    teachers, smoke_test = teachers_of(own), own.trainer.fast_dev_run
    runs = [teacher_run(parser, own, part) for part in teachers if part.settings.weights is None]
    runs += [_baseline_run(parser, own)] if own.baseline is not None and not smoke_test else []
    found = {run.what: find(run, logs) for run in runs}
    missing = [run for run in runs if found[run.what] is None]
    if missing and smoke_test:
        print_rank_zero("There is no teacher yet; the smoke test takes an untrained one.")
    elif missing:
        check()
        for number, run in enumerate(missing):
            found[run.what] = (find(run, logs) if number else None) or _train(run, logs, train)  # or in a chain before
    weights = {what: path for what, path in found.items() if path is not None}
    given = {part.name: str(part.settings.weights) for part in teachers if part.settings.weights is not None}
    for what, path in (given | weights).items():
        print_weights(what, path)
    return weights


def teacher_run(parser: LightningArgumentParser, own: Namespace, part: TeacherPart) -> FirstRun:
    """Return the run that trains a teacher of a distillation.

    A finished run serves where each of its settings equals the teacher's config or this run's options. Its images must
    be this run's; its random seed may be any.

    Args:
        parser: Of ``fit``.
        own: The resolved config of the distillation.
        part: The teacher's part of it.

    Raises:
        UserError: The config trains another network, or needs itself.
    """
    name = part.settings.config
    alone, config = _configs(parser, own, name)
    check_network(part, alone)
    _check_chain(parser, alone, (name,))
    accepted = accepted_by(plain(parser, config), plain(parser, alone)) | {"seed_everything": None}
    remedy = f"; {part.option}.weights takes its file all the same"
    return FirstRun(part.name, name, config, accepted, remedy)


def _check_chain(parser: LightningArgumentParser, config: Namespace, names: tuple[str, ...]) -> None:
    """Refuse a teacher whose teacher, or that one's, is trained by a config that needs the first one.

    Args:
        parser: Of ``fit``.
        config: The last config of the chain.
        names: The names of all.
    """
    for name in [part.settings.config for part in teachers_of(config) if part.settings.weights is None]:
        if name in names:
            raise UserError(
                f"{names[-1]} trains a teacher with {name} first, without end ({' -> '.join((*names, name))}); name "
                "another config with --model.teacher.config, or weights with --model.teacher.weights."
            )
        _check_chain(parser, parser.parse_args(["--config", name]), (*names, name))


def _baseline_run(parser: LightningArgumentParser, own: Namespace) -> FirstRun:
    try:
        _, config = _configs(parser, own, own.baseline)
    except UserError as error:
        raise UserError(f"in {own.baseline}, which trains the student without a teacher, {error}") from error
    config.baseline = None
    return FirstRun("Baseline", own.baseline, config, accepted_by(plain(parser, config)))


def _configs(parser: LightningArgumentParser, own: Namespace, name: str) -> tuple[Namespace, Namespace]:
    """Return a config with this run's images, and with all that it takes over from this run.

    The number of augmented views is not taken over: it lets a teacher's outputs be cached, and a network that learns
    from labels would lose by it. Unlabelled images are of no use to one.
    """
    data = plain(parser, own)["data"]
    images = {key: value for key, value in data.get("init_args", {}).items() if key not in (*HOW_SEEN, *NOT_FOR_LABELS)}
    option = yaml.safe_dump({**data, "init_args": images}, default_flow_style=True, width=MAX_BYTES)
    alone = parser.parse_args(["--config", name, f"--data={option}"])
    config = alone.clone()
    config.seed_everything, config.quiet = own.seed_everything, own.quiet
    seen = own.data.get("init_args") or Namespace()
    for key in (key for key in HOW_SEEN if key in seen):
        config.data.init_args[key] = seen[key]
    first = first_config(own)
    unchanged = parser.get_defaults() if first is None else parser.parse_args(["--config", str(first)])
    for key, value in vars(own.trainer).items():
        if value != unchanged.trainer.get(key) and key not in NOT_TAKEN:
            config.trainer[key] = value
    return alone, config


def find(run: FirstRun, logs: Path) -> Path | None:
    """Return the weights of the newest finished run that serves."""
    found = find_run(logs / run_name(Path(run.name)), run.accepted, run.what, run.remedy)
    if found is not None and run.what != "Baseline":
        seed = read_yaml(found.with_name("config.yaml"))["seed_everything"]
        if seed != run.config.seed_everything:
            print_rank_zero(f"{run.what}: {found} was trained with seed {seed}; a teacher serves all random seeds.")
    return found


def _train(run: FirstRun, logs: Path, train: Callable[[Namespace], Path]) -> Path:
    what, folder = run.what.lower(), logs / run_name(Path(run.name))
    print_rank_zero(f"There is no {what} yet: {run.name} trains it first and writes it to {folder}/version_*.")
    with stopping.followed_by(f"\nThat is the {what}. Then give the first command again."):
        return train(run.config)


def require_teachers(parser: LightningArgumentParser, own: Namespace, logs: Path) -> None:
    """Set the weights of the teachers for a command that does not train them; prefer the checkpoint's own teachers.

    Raises:
        UserError: One has none.
    """
    for part in teachers_of(own):
        if part.settings.weights is None:
            part.settings.weights = str(_required(parser, own, part, logs))


def _required(parser: LightningArgumentParser, own: Namespace, part: TeacherPart, logs: Path) -> Path:
    settings = part.settings
    runs, known = logs / run_name(Path(settings.config)), _learned_from(own.ckpt_path, f"{part.option}.weights")
    weights = next((path for path in newest_weights(runs) if str(path) == known), None)
    weights = weights or find(teacher_run(parser, own, part), logs)
    if weights is None:
        raise UserError(
            f"there is no {part.name.lower()} in {runs} for this config; train it with `kd-lightning fit --config "
            f"{settings.config}`, or name its file with {part.option}.weights."
        )
    return weights


def _learned_from(checkpoint: str | None, option: str) -> str | None:
    """Return a teacher's path in a checkpoint; it is untrusted, and only compared with paths of our own runs."""
    content = None if checkpoint is None else read_file(Path(checkpoint))
    for key in (TEACHER_KEY, "files", option, "weights"):
        content = content.get(key) if isinstance(content, Mapping) else None
    return content if isinstance(content, str) else None


def print_weights(what: str, weights: str | Path) -> None:
    """Print the weights of a teacher or baseline, with their accuracy."""
    _, info = read_weights(weights)
    if info is None:
        print_rank_zero(f"{what}: {weights} (a bare state dict; its accuracy is measured at the end)")
        return
    network = info.network.rpartition(".")[2]
    accuracy = "not measured" if info.accuracy is None else f"{100 * info.accuracy:.2f} %"
    time = "" if info.epochs is None else f" for {epochs_in_words(info.epochs, info.limits)}"
    print_rank_zero(f"{what}: {weights} ({network} trained on {info.data}{time}, test accuracy {accuracy})")
