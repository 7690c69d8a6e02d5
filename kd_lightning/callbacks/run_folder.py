"""Where a run's files go."""

from pathlib import Path

from lightning.pytorch import Trainer


def run_folder(trainer: Trainer) -> Path:
    """Return the folder of the run, the same in all processes: ``lightning_logs/<config name>/version_N``."""
    return Path(trainer.log_dir or trainer.default_root_dir)
