"""What the runs of a study are, before any of them is started: their arguments, their configs, their data."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd_lightning.callbacks import SaveWeights
from kd_lightning.commands.options import data_parser
from kd_lightning.compare.identity import own_callbacks
from kd_lightning.compare.measure import Measure
from kd_lightning.compare.results import Role
from kd_lightning.compare.study import Request, RowConfig
from kd_lightning.data import ImageDataModule
from kd_lightning.errors import UserError
from kd_lightning.training.cli import TrainingCLI, plain, run
from kd_lightning.training.config_files import find_config
from kd_lightning.training.parse_errors import users_mistake
from kd_lightning.training.teacher_first import teacher_settings

WEIGHTS = "weights.pth"


@dataclass(frozen=True)
class PlannedRow:
    """A row whose config has been parsed.

    Attributes:
        row: What the study says of it.
        role: What it is in the study.
        args: Arguments of ``fit`` that all its runs share.
        config: The resolved config, as plain values.
        learns: Whether it learns from the study's teacher.
    """

    row: RowConfig
    role: Role
    args: tuple[str, ...]
    config: dict[str, Any]
    learns: bool

    @property
    def epochs(self) -> int:
        """Epochs of a run."""
        return int(self.config["trainer"]["max_epochs"] or 1000)

    def run_args(self, seed: int, folder: Path, teacher: Path | None) -> list[str]:
        """Return the arguments of ``fit`` for one run: the row's, and where the run writes what is wanted of it."""
        save = {"class_path": _path(SaveWeights), "init_args": {"filename": WEIGHTS}}
        names = {"save_dir": str(folder.parent), "name": "", "version": folder.name, "default_hp_metric": False}
        logger = {"class_path": "lightning.pytorch.loggers.TensorBoardLogger", "init_args": names}
        return [
            *self.args,
            f"--seed_everything={seed}",
            f"--trainer.callbacks={json.dumps([*own_callbacks(self.config), save, {'class_path': _path(Measure)}])}",
            f"--trainer.logger={json.dumps(logger)}",
            "--trainer.enable_checkpointing=false",
            "--trainer.enable_progress_bar=false",
            "--trainer.devices=1",
            *([f"--model.teacher.weights={teacher}"] if teacher else []),
        ]


class ParsedOnly(TrainingCLI):
    """Parses what ``fit`` would run, and builds nothing of it."""

    def before_instantiate_classes(self) -> None:
        """Ask for no teacher."""

    def instantiate_classes(self) -> None:
        """Build nothing."""


def plan_rows(request: Request) -> list[PlannedRow]:
    """Parse the configs of all rows, the teacher's first.

    Raises:
        UserError: There is something wrong in one of them.
    """
    study = request.study
    rows = [_plan(row, "student", request.each_run, study.teacher) for row in study.compared]
    rows.insert(0, _plan(study.baseline, "baseline", request.each_run, study.teacher))
    if study.teacher is not None:
        rows.insert(0, _plan(study.teacher, "teacher", request.each_run, None))
    return rows


def _plan(row: RowConfig, role: Role, each_run: Sequence[str], teacher: RowConfig | None) -> PlannedRow:
    args = ("--config", str(find_config(row.config)), *each_run, *row.args)
    parsed = run(args, ParsedOnly, run=False)
    settings = teacher_settings(parsed.config)
    if settings is not None and teacher is None and not Path(settings.weights or "").is_file():
        raise UserError(
            f"{row.config} learns from a teacher; name the teacher's config in the study, as `teacher`, or its weights "
            "with --model.teacher.weights."
        )
    return PlannedRow(row, role, ("fit", *args), plain(parsed.parser, parsed.config), bool(settings and teacher))


def build_data(config: dict[str, Any]) -> ImageDataModule:
    """Build the data source of a resolved config."""
    parser = data_parser("compare", "")
    try:
        data: ImageDataModule = parser.instantiate(parser.parse_object({"data": config["data"]})).data
    except ValueError as error:
        raise users_mistake(error) or error from None
    data.prepare_data()
    return data


def _path(kind: type[Any]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
