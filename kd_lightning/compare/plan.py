"""The arguments, configs and data of a study's runs, before any of them starts."""

from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from kd_lightning.compare.fit import BuiltOnly
from kd_lightning.compare.results import Role
from kd_lightning.compare.study import Request, RowConfig
from kd_lightning.data import ImageDataModule
from kd_lightning.errors import UserError
from kd_lightning.networks import Network
from kd_lightning.tasks import Task
from kd_lightning.tasks.distill import Distill
from kd_lightning.training.checks import teacher_settings
from kd_lightning.training.cli import run
from kd_lightning.training.config_files import find_config


@dataclass(frozen=True)
class PlannedRow:
    """A row whose config is parsed, and whose data, networks and trainer are built once to find errors early.

    Attributes:
        row: Its entry in the study.
        role: Its role in the study.
        args: Arguments of ``fit`` that all its runs share.
        config: The resolved config, as plain values.
        built: Its data, networks and trainer, which have not run.
        learns: Whether it learns from the study's teacher.
        seconds: Time to parse and to build it.
    """

    row: RowConfig
    role: Role
    args: tuple[str, ...]
    config: dict[str, Any]
    built: BuiltOnly
    learns: bool
    seconds: float

    @property
    def data(self) -> ImageDataModule:
        """The row's data."""
        return self.built.datamodule

    def run_args(self, seed: int, teacher: Path | None) -> list[str]:
        """Return the arguments of ``fit`` for one run."""
        return [*self.args, f"--seed_everything={seed}", *([f"--model.teacher.weights={teacher}"] if teacher else [])]


def plan_rows(request: Request) -> list[PlannedRow]:
    """Parse the configs of all rows, the teacher's first, and build what they name.

    Raises:
        UserError: One of them is wrong, or they do not fit each other.
    """
    study = request.study
    planned: list[PlannedRow] = []
    for row in study.rows:
        role: Role = "teacher" if row is study.teacher else "baseline" if row is study.baseline else "student"
        planned.append(_plan(row, role, request, learns=study.teacher is not None and role != "teacher"))
        if planned[-1].learns:
            _check_teacher(row, planned[-1].built.model, planned[0].built.model.network)
    return planned


def _plan(row: RowConfig, role: Role, request: Request, *, learns: bool) -> PlannedRow:
    start = perf_counter()
    args = ("fit", "--config", str(find_config(row.config)), *request.each_run, *row.args)
    try:
        built = run(args, BuiltOnly, folder=request.output / "logs" / row.folder / "planned", learns=learns)
    except UserError as error:
        raise UserError(f"in the row '{row.title}', {error}") from error
    assert isinstance(built, BuiltOnly)
    _refuse_parts(row.title, built.parsed)
    settings = teacher_settings(built.own)
    if settings is not None and not learns and settings.weights is None:
        raise UserError(
            f"the row '{row.title}' learns from a teacher that is not there yet; train it first with `python -m "
            f"kd_lightning fit --config {settings.config}`, or let the study train it, by `teacher` in its file."
        )
    if built.found is not None:
        args += (f"--model.teacher.weights={built.found}",)
    return PlannedRow(row, role, args, built.parsed, built, settings is not None and learns, perf_counter() - start)


def _refuse_parts(title: str, config: dict[str, Any]) -> None:
    """Refuse options that would shorten a run, or test it on a part of the test images."""
    trainer = config["trainer"]
    tested = trainer["limit_test_batches"]
    partial = {
        "fast_dev_run": trainer["fast_dev_run"],
        "limit_test_batches": tested is not None and (isinstance(tested, int) or tested < 1),
        **{name: trainer[name] == 0 for name in ("max_epochs", "max_steps", "limit_train_batches")},
    }
    for name in (name for name, is_partial in partial.items() if is_partial):
        raise UserError(
            f"the row '{title}' has trainer.{name} {trainer[name]}, but a study's runs are trained, and tested on all "
            f"test images; leave trainer.{name} out."
        )


def _check_teacher(row: RowConfig, task: Task, teacher: Network) -> None:
    """Refuse a row whose teacher has another network than the one that the study trains."""
    if not isinstance(task, Distill):
        return  # a task of the user's own, which checks its teacher itself
    expected = task.teacher.network
    shapes, found = ({key: value.shape for key, value in net.state_dict().items()} for net in (expected, teacher))
    if type(expected) is not type(teacher) or shapes != found:
        raise UserError(
            f"the row '{row.title}' learns from a {_named(expected)}, but the study's teacher is a {_named(teacher)}; "
            "give the row that network, by `model.teacher.network` in its `options`."
        )


def _named(network: Network) -> str:
    arguments = ", ".join(f"{name}={value}" for name, value in network.arguments.items())
    return f"{type(network).__name__}({arguments})"
