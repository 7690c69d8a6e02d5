"""The rows of a study before any run starts: their arguments, configs and data."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kd_lightning.compare.choice import Choice
from kd_lightning.compare.fit import BuiltOnly
from kd_lightning.compare.results import Role
from kd_lightning.compare.row_config import RowConfig, Setting
from kd_lightning.compare.run_key import KeyOfRow, code_digests, fingerprint
from kd_lightning.compare.study import Request
from kd_lightning.data import ImageDataModule
from kd_lightning.data.compatibility import check_data
from kd_lightning.errors import UserError
from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.networks import Network
from kd_lightning.tasks import Task
from kd_lightning.tasks.distill import Distill
from kd_lightning.training.checks import teachers_of
from kd_lightning.training.cli import run
from kd_lightning.training.config_files import find_config


@dataclass
class PlannedRow:
    """A row whose config is parsed, and whose data, networks and trainer are built once to find errors early.

    Attributes:
        row: Its entry in the study.
        role: Its role in the study.
        args: Arguments of ``fit`` that all its runs share.
        config: The resolved config, as plain values.
        built: Its data, networks and trainer, which have not run.
        learns: Whether it learns from the study's teacher.
        code: Digest of the code that it uses besides this package.
        data: Its data, which rows with the same config of data share; set by ``read_data``.
        fingerprint: That of its data; set by ``read_data``.
        exploratory: Why the study's plan leaves it out; empty where the plan has it, and for teacher and baseline.
        settings: Where its setting is to be chosen, a row for each one (of a search, for the ends of its space); it is
            itself the first of them until then.
        choice: How its setting was chosen.
    """

    row: RowConfig
    role: Role
    args: tuple[str, ...]
    config: dict[str, Any]
    built: BuiltOnly
    learns: bool
    code: str = ""
    fingerprint: dict[str, str] = field(default_factory=dict)
    exploratory: str = ""
    settings: "list[PlannedRow]" = field(default_factory=list)
    choice: Choice | None = None

    def __post_init__(self) -> None:
        self.data: ImageDataModule = self.built.datamodule
        self._shared: dict[str, Any] = {}

    @property
    def title(self) -> str:
        """Its name in reports."""
        return self.row.title

    def run_args(self, seed: int, teacher: Path | None) -> list[str]:
        """Return the arguments of ``fit`` for one run."""
        return [*self.args, f"--seed_everything={seed}", *([f"--model.teacher.weights={teacher}"] if teacher else [])]

    def key(self, seed: int, teacher: str | None, threads: int) -> str:
        """Return the key of one run, which may learn from a teacher whose weights have a hash."""
        shared = {"data": self.fingerprint, "learns": teacher is not None, "threads": threads, "code": self.code}
        if self._shared != shared:
            self._shared, self._keys = shared, KeyOfRow(self.config, **shared)  # type: ignore[arg-type]
        return self._keys.of(seed, teacher)


def plan_rows(request: Request) -> list[PlannedRow]:
    """Parse the configs of all rows, the teacher's first, and build what they name.

    Raises:
        UserError: One of them is wrong, or they do not fit each other.
    """
    study, before = request.study, set(sys.modules)
    planned: list[PlannedRow] = []
    for row in study.rows:
        role: Role = "teacher" if row is study.teacher else "baseline" if row is study.baseline else "student"
        of_row = [
            _plan(config, role, request, planned[0] if study.teacher is not None and planned else None)
            for config in ([row.at(setting, number) for number, setting in enumerate(row.settings, 1)] or [row])
        ]
        planned.append(replace(of_row[0], row=row, settings=of_row) if row.is_chosen else of_row[0])
    built = with_settings(planned)
    codes = code_digests({row.title: row.config for row in built}, sys.modules.keys() - before)
    for found in built:
        found.code = codes[found.title]
    return planned


def with_settings(rows: Iterable[PlannedRow]) -> list[PlannedRow]:
    """Return the rows and, after each, its settings."""
    return [found for row in rows for found in (row, *row.settings)]


def plan_setting(
    planned: PlannedRow, request: Request, teacher: PlannedRow | None, setting: Setting, number: int | None = None
) -> PlannedRow:
    """Plan a row with one of its settings, as one of several where it has a ``number``.

    Raises:
        UserError: The setting is wrong, or does not fit the teacher.
    """
    found = _plan(planned.row.at(setting, number), planned.role, request, teacher)
    same = next((of for of in planned.settings if of.config == found.config), None)
    found.code = same.code if same else code_digests({found.title: found.config}, ())[found.title]
    read_data([found], planned.settings)
    _check_validation([*planned.settings, found])
    return found


def _plan(row: RowConfig, role: Role, request: Request, teacher: PlannedRow | None) -> PlannedRow:
    """Plan a row that learns from the study's teacher, where there is one."""
    learns = teacher is not None
    args = ("fit", "--config", str(find_config(row.config)), *request.each_run, *row.args)
    try:
        built = run(args, BuiltOnly, folder=request.output / "logs" / row.folder / "planned", learns=learns)
    except UserError as error:
        raise UserError(f"in the row '{row.title}', {error}") from error
    assert isinstance(built, BuiltOnly)
    _refuse_parts(row.title, built.parsed)
    for part in teachers_of(built.own):
        if part.settings.weights is None and not built.learns:
            raise UserError(
                f"the row '{row.title}' learns from a teacher that is not there yet; train it first with "
                f"`kd-lightning fit --config {part.settings.config}`, or let the study train it, by `teacher` in its "
                "file, for rows with one teacher."
            )
    args += tuple(f"{option}={found}" for option, found in built.found.items())
    if teacher is not None and built.learns:
        _check_teacher(row, built.model, teacher.built.model.network)
    return PlannedRow(row, role, args, built.parsed, built, built.learns)


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
    [expected] = task.teacher.networks
    shapes, found = ({key: value.shape for key, value in net.state_dict().items()} for net in (expected, teacher))
    if type(expected) is not type(teacher) or shapes != found:
        raise UserError(
            f"the row '{row.title}' learns from a {_named(expected)}, but the study's teacher is a {_named(teacher)}; "
            "give the row that network, by `model.teacher.network` in its `options`."
        )


def _named(network: Network) -> str:
    arguments = ", ".join(f"{name}={value}" for name, value in network.arguments.items())
    return f"{type(network).__name__}({arguments})"


def read_data(rows: Sequence[PlannedRow], known: Sequence[PlannedRow] = ()) -> None:
    """Read the data of rows and their settings, which downloads and decodes it, before any run needs it.

    Args:
        rows: The rows.
        known: Rows whose data are read.

    Raises:
        UserError: Two rows have different test images, the settings of a row have not the same validation images, or a
            row's data differ from its teacher's.
    """
    read = list(known)
    for row in with_settings(rows):
        same = next((other for other in read if other.config["data"] == row.config["data"]), None)
        if same is None:
            row.data.prepare_data()
            row.fingerprint = fingerprint(row.data)
            read.append(row)
        else:
            row.data, row.fingerprint = same.data, same.fingerprint
    if len({(row.fingerprint["test"], row.fingerprint["classes"]) for row in read}) > 1:
        raise UserError("the rows of a study must be tested on the same images; give all its configs the same data.")
    for row in rows:
        _check_validation(row.settings)
    if rows[0].role == "teacher":
        _check_teachers_data(rows[0].data, [row for row in rows if row.learns])


def _check_validation(settings: Sequence[PlannedRow]) -> None:
    """Refuse settings among which the same validation images cannot choose."""
    for one in settings:
        if "val" not in one.fingerprint or one.config["trainer"]["limit_val_batches"] == 0:
            raise UserError(
                f"'{one.title}' is one of several settings, which are compared on validation images, but it has none; "
                "set data.val_size above 0 and leave trainer.limit_val_batches out."
            )
        if one.fingerprint["val"] != settings[0].fingerprint["val"]:
            raise UserError(
                f"'{one.title}' has other validation images than '{settings[0].title}', but settings are compared on "
                "the same ones; leave data.val_size out of them."
            )


def _check_teachers_data(data: ImageDataModule, learn: Sequence[PlannedRow]) -> None:
    """Compare the teacher's data, as its file will describe them, with the data of the rows that learn from it."""
    seen, size, pixels = data.normalization, data.image_size, data.pixel_range
    info = ModelInfo("", {}, data.class_names, seen.mean, seen.std, size, data.name, pixel_range=pixels)
    for row in learn:
        check_data(f"the teacher of the row '{row.title}'", info, row.data)
