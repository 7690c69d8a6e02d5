"""The job of SLURM that this process belongs to."""

import os
import subprocess

INTERACTIVE = ("bash", "interactive")
"""Names of jobs in which a user types commands, for Lightning, too."""


def job_id() -> str | None:
    """Return the id of the job, as ``scontrol`` takes it; ``None`` outside of one, or in an interactive one."""
    if os.environ.get("SLURM_JOB_NAME") in INTERACTIVE:
        return None
    if (array := os.environ.get("SLURM_ARRAY_JOB_ID")) is not None:  # its id alone means all jobs of the array
        return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID")


def is_restarted() -> bool:
    """Return whether SLURM has run the job before, and put it back into its queue."""
    return os.environ.get("SLURM_RESTART_COUNT", "0") != "0"


def requeue(job: str) -> bool:
    """Put a job back into the queue, which ends it, often with ``scontrol`` itself; return whether SLURM does that."""
    try:
        done = subprocess.run(["scontrol", "requeue", job], check=False, capture_output=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode <= 0
