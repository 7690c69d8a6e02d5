"""Where a run's files go."""

from pathlib import Path

from lightning.pytorch import Trainer


def run_folder(trainer: Trainer) -> Path:
    """Return the folder of the run: ``lightning_logs/<config name>/version_N``.

    The first process tells it to the others, so all processes must ask together.
    """
    return Path(trainer.log_dir or trainer.default_root_dir)
