"""The student without a teacher (baseline), which a distilled student is compared with: found, or trained first."""

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
    "Config that trains the student without a teacher (baseline). fit runs it first, with this run's data, seed and "
    "trainer options, unless a finished run has the same settings; the summary shows both."
)


def check_baseline(parser: LightningArgumentParser, own: Namespace) -> None:
    """Refuse a baseline's config that is missing or wrong, before anything is trained.

    Raises:
        UserError: The config is missing or wrong.
    """
    if own.baseline is not None:
        with _options(parser, own):
            pass


def find_or_train(parser: LightningArgumentParser, own: Namespace, logs: Path, fit: Fit) -> Path:
    """Return the baseline's weights: of the newest run with the same settings, or else of one that is trained now.

    Args:
        parser: Of ``fit``.
        own: The resolved config of the distillation, whose data, seed and trainer changes the baseline takes over.
        logs: Folder of all runs.
        fit: Runs ``fit``.
    """
    with _options(parser, own) as (options, wanted):
        weights = find_run(logs / run_name(Path(own.baseline)), wanted, "Student without a teacher")
        if weights is None:
            print_rank_zero(f"There is no baseline yet: {own.baseline} trains it first, with this run's data and seed.")
            with stopping.followed_by("\nThat is the baseline. Then give the first command again."):
                weights = fit(["fit", *options])
            seed_everything(own.seed_everything, verbose=False)  # as if no other run came first
    print_weights("Student without a teacher", weights)
    return weights


@contextmanager
def _options(parser: LightningArgumentParser, own: Namespace) -> Iterator[tuple[list[str], Wanted]]:
    """Yield the options of the baseline's ``fit``, and its settings."""
    changes = overrides(parser, own) | {"baseline": None}
    with fit_options(own.baseline, changes) as options:
        try:
            wanted = wanted_by(plain(parser, parser.parse_args(options)))
        except UserError as error:
            raise UserError(f"in {own.baseline}, which trains the student without a teacher, {error}") from error
        yield options, wanted
