"""The student alone, without a teacher, whom a distilled one is compared with: found, or trained first."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jsonargparse import Namespace
from lightning.pytorch import seed_everything
from lightning.pytorch.cli import LightningArgumentParser

from kd_lightning.errors import UserError
from kd_lightning.machine import stopping
from kd_lightning.training.config_files import run_name
from kd_lightning.training.console import print_rank_zero
from kd_lightning.training.parser import plain
from kd_lightning.training.reuse import Wanted, find_run, wanted_by
from kd_lightning.training.teacher_first import Fit, fit_options, overrides, print_weights

HELP = (
    "Config that trains the student alone, without a teacher; fit runs it first where no run of it was trained as it "
    "says now, with this run's data, seed and trainer options, and the summary shows both."
)


def check_baseline(parser: LightningArgumentParser, own: Namespace) -> None:
    """Refuse a config of the student alone that is not there or is wrong, before anything is trained.

    Raises:
        UserError: It says what.
    """
    if own.baseline is not None:
        with _options(parser, own):
            pass


def find_or_train(parser: LightningArgumentParser, own: Namespace, logs: Path, fit: Fit) -> Path:
    """Return the weights of the student alone: of the newest run that was the same, or else of one that is done now.

    Args:
        parser: Of ``fit``.
        own: The resolved config of the distillation, whose data, seed and changes of the trainer are the student's.
        logs: Folder of all runs.
        fit: Runs ``fit``.
    """
    with _options(parser, own) as (options, wanted):
        weights = find_run(logs / run_name(Path(own.baseline)), wanted, "Student alone")
        if weights is None:
            print_rank_zero(
                f"There is no student alone yet: {own.baseline} trains it first, with this run's data and seed."
            )
            with stopping.followed_by("\nThat is the student alone. Then give the first command again."):
                weights = fit(["fit", *options])
            seed_everything(own.seed_everything, verbose=False)  # as if it had been there
    print_weights("Student alone", weights)
    return weights


@contextmanager
def _options(parser: LightningArgumentParser, own: Namespace) -> Iterator[tuple[list[str], Wanted]]:
    """Give the options of its own ``fit``, and what that trains."""
    changes = overrides(parser, own) | {"baseline": None}
    with fit_options(own.baseline, changes) as options:
        try:
            wanted = wanted_by(plain(parser, parser.parse_args(options)))
        except UserError as error:
            raise UserError(f"in {own.baseline}, which trains the student alone, {error}") from error
        yield options, wanted
