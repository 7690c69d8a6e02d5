"""What SLURM says of a study's jobs, which are found by the name of their array."""

import os
import subprocess
from typing import NamedTuple

ENDED = ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT")
ADVICE = {
    "CANCELLED": "was cancelled",
    "OUT_OF_MEMORY": "ran out of memory; give it more by --slurm.memory",
    "TIMEOUT": "reached its time limit; give it more by --slurm.time",
}


class Place(NamedTuple):
    """Where a run is in SLURM: the name of its array, which no other has, and its number there."""

    array: str
    number: int


class Listed(NamedTuple):
    """A job as ``squeue`` lists it: its id, such as ``12_3``, and its state, such as ``RUNNING``."""

    number: str = ""
    state: str = ""

    @property
    def is_alive(self) -> bool:
        """Whether it runs, waits or will be run again."""
        return self.state not in ("", *ENDED)

    @property
    def failure(self) -> str:
        """Why a run has no results though its job has ended, in one sentence."""
        if not self.state:
            return "SLURM has its job no more, and it left no results"
        ended = f"ended ({self.state}), and left no results"
        return f"its SLURM job {self.number} {ADVICE.get(self.state, ended)}"


def listed_jobs() -> dict[Place, Listed] | None:
    """Return the user's jobs, also those that ended some minutes ago; ``None`` where SLURM does not answer."""
    command = ["squeue", "--noheader", "--array", "--states=all", f"--user={os.getuid()}", "--format=%i %T %j"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = (line.split(maxsplit=2) for line in answer.stdout.splitlines())
    return {_place(number, name): Listed(number, state) for number, state, name in lines}


def _place(number: str, name: str) -> Place:
    """Return the place of a job; one that is no array of several has the number 0."""
    task = number.partition("_")[2]
    return Place(name, int(task) if task.isdecimal() else 0)
