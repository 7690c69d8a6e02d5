"""A fit that SLURM runs again, because it was preempted or its time was over, goes on from its own last checkpoint."""

import json
from pathlib import Path
from typing import Any

from kd_lightning.callbacks.interrupt import last_checkpoint
from kd_lightning.digest import digest
from kd_lightning.errors import UserError
from kd_lightning.machine import slurm

FOLDER = "slurm_jobs"


def record_of(logs: Path, config: dict[str, Any]) -> Path | None:
    """Return the file that lists the folders of a job's runs of a config; ``None`` outside of SLURM.

    Args:
        logs: The folder of all runs.
        config: The resolved config, as plain values: a job may run several, one after another.
    """
    job = slurm.job_id()
    if job is None:
        return None
    return logs / FOLDER / f"{job}_{digest(json.dumps(config, sort_keys=True, default=str), size=8)}.txt"


def checkpoint_to_resume(record: Path | None) -> Path | None:
    """Return the newest checkpoint of a job that was run before."""
    if record is None or not slurm.is_restarted() or not record.is_file():
        return None
    folders = map(Path, reversed(record.read_text(encoding="utf-8").splitlines()))
    return next((path for folder in folders if (path := last_checkpoint(folder)).is_file()), None)


def refuse_foreign(root: Path) -> None:
    """Refuse a folder in which Lightning would begin every run with another run's weights.

    Raises:
        UserError: It holds a checkpoint of Lightning's own way to run a job again, and this is a job of SLURM.
    """
    found = sorted(root.glob("hpc_ckpt_*.ckpt")) if slurm.job_id() else []
    if found:
        raise UserError(
            f"{found[-1]} was written by Lightning when SLURM stopped a program, and Lightning would begin every run "
            "in this folder with it; move it elsewhere, and name it by --ckpt_path to go on from it."
        )
