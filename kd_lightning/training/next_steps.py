"""What to do after a fit: the commands for its curves, its predictions and a study."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from kd_lightning.callbacks import ExportONNX, SaveWeights
from kd_lightning.callbacks.trainer_callbacks import callbacks_of
from kd_lightning.errors import UserError
from kd_lightning.machine.terminal import PROGRAM, command_text
from kd_lightning.training.config_files import config_folders
from kd_lightning.training.yaml_check import read_yaml


def next_steps(trainer: Trainer, config: Path | None) -> str:
    """Return the commands that a person may want next, ready to copy.

    Args:
        trainer: The trainer of a fit that has been tested.
        config: The config that was run; ``None`` where there is none, or where options changed more than the trainer.
    """
    commands: list[Sequence[str]] = [["tensorboard", "--logdir", str(folder)] for folder in _logs(trainer)]
    if (model := _model(trainer)) is not None:
        commands.append([PROGRAM, "predict", "IMAGES", "--model", str(model)])
    if config is not None and (study := find_study(config)) is not None:
        commands.append([PROGRAM, "compare", "--config", study, "--seeds", "5"])
    return "\n".join(["", "Next:", *map(command_text, commands)]) if commands else ""


def _logs(trainer: Trainer) -> Iterator[Path]:
    """Yield the folder in which TensorBoard finds this run beside others."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            runs = Path(logger.root_dir)
            yield runs.parent if logger.name else runs
            return


def _model(trainer: Trainer) -> Path | None:
    """Return the best file to predict with: the fastest exported one, or else the weights."""
    reports = [callback.report for callback in callbacks_of(trainer, ExportONNX) if callback.report is not None]
    files = [report.recommended or report.rows[0] for report in reports]
    weights = [path for callback in callbacks_of(trainer, SaveWeights) for path in callback.files]
    return next((path for path in (*(row.path for row in files), *weights)), None)


def find_study(config: Path) -> str | None:
    """Return the name of a study that compares what a config trains; the working directory's come first."""
    for folder in config_folders():
        for path in sorted(folder.glob("*.yaml")):
            if "compared:" in path.read_text(encoding="utf-8", errors="replace") and config.name in _compared(path):
                return path.name
    return None


def _compared(study: Path) -> list[str]:
    try:
        rows = read_yaml(study).get("compared")
    except UserError:  # some other file
        return []
    return [Path(str(row.get("config"))).name for row in rows or () if isinstance(row, dict)]
