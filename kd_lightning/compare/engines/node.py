"""A run of a study as a job of a cluster, on the machine that the cluster has chosen."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from kd_lightning.compare.worker import Job, attempt
from kd_lightning.files import atomic_write
from kd_lightning.training.console import quieten

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission


class OnNode:
    """Does a run; it is pickled into the folder of jobs.

    Args:
        threads: CPU threads of the run.
        folder: Folder of files that say why runs failed.
    """

    def __init__(self, threads: int, folder: Path) -> None:
        self.threads = threads
        self.folder = folder

    def __call__(self, job: Job) -> None:
        """Do a run, or go on with one that another job has begun; its failure is written to a file."""
        torch.set_num_threads(self.threads)
        quieten()
        failure = attempt(job, resumes=True)
        if failure is not None:
            with atomic_write(failure_file(self.folder, job.key)) as temporary:
                temporary.write_text(failure, encoding="utf-8")

    def checkpoint(self, job: Job) -> "DelayedSubmission":
        """Return the job that SLURM is to run next, when this one's time is over: the last epoch is saved."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, job)


def failure_file(folder: Path, key: str) -> Path:
    """Return the file that says why the run of a key failed."""
    return folder / f"{key}.failed"
