"""Runs of a study as jobs of SLURM, by submitit; the study's folder must be shared with the cluster's nodes."""

import json
import shlex
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from kd_lightning.compare.engines.node import OnNode, failure_file
from kd_lightning.compare.engines.options import SlurmOptions
from kd_lightning.compare.engines.squeue import Listed, Place, listed_jobs
from kd_lightning.compare.store import classes_file, weights_file
from kd_lightning.compare.worker import Job
from kd_lightning.errors import UserError
from kd_lightning.files import atomic_write, writing
from kd_lightning.machine import stopping
from kd_lightning.wording import shown

FOLDER = "slurm"
LARGEST_ARRAY = 500
"""Jobs of an array; clusters have a limit, by default 1,001."""
MOST_TIMEOUTS = 10
POLL_SECONDS = 10.0
"""How often SLURM is asked for its jobs; results are looked for in the folder all the time."""
WARNING_SECONDS = 30
"""Time between SLURM's signal and the end of a job; SLURM may send it a minute earlier."""


class SlurmEngine:
    """Submits jobs in arrays, and finds those that an earlier process of the study has submitted.

    An array has a record in the study's folder before SLURM has the array, and is found by its name: a study that is
    killed at any time submits no run twice.

    Args:
        options: What each job gets.
        folder: The study's folder.
        jobs: Largest number of jobs at once.
        threads: CPU threads of each run.

    Raises:
        UserError: SLURM does not answer, or the folder cannot be written.
    """

    def __init__(self, options: SlurmOptions, folder: Path, *, jobs: int, threads: int) -> None:
        self.options = options
        self.folder = folder / FOLDER
        self.jobs = jobs
        self.threads = threads
        self._new: list[Job] = []
        self._submitted: dict[Place, Job] = {}
        self._over: set[Place] = set()  # those that had ended when SLURM was asked last
        self._asked = time.monotonic()
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        self._found = self._find_earlier()
        stopping.set_resume_hint(self._hint)

    @property
    def running(self) -> list[Job]:
        """The jobs that run, or wait for their turn in SLURM."""
        return [*self._new, *self._submitted.values()]

    @property
    def has_room(self) -> bool:
        """Whether another job can be submitted."""
        return len(self._new) + len(self._submitted) < self.jobs

    def start(self, job: Job) -> None:
        """Submit a job with the next array, unless SLURM has it already."""
        place = self._found.pop(job.key, None)
        if place is None:
            self._new.append(job)
        else:
            self._submitted[place] = job

    def wait(self, seconds: float) -> list[tuple[Job, str | None]]:
        """Submit what is new; return the jobs that have ended, each with its failure, or ``None``."""
        while self._new:
            self._submit(self._new[:LARGEST_ARRAY])
            del self._new[:LARGEST_ARRAY]
        if not (ended := dict(self._look())):
            time.sleep(seconds)
            ended = dict(self._look())
        return [(self._submitted.pop(place), failure) for place, failure in ended.items()]

    def close(self) -> None:
        """Leave SLURM's jobs as they are: the next process of the study finds them."""

    def _look(self) -> Iterator[tuple[Place, str | None]]:
        """Give the places of ended jobs, and their failures."""
        over = self._newly_over()
        for place, job in self._submitted.items():
            if all(path.exists() for path in (job.result, weights_file(job.result), classes_file(job.result))):
                yield place, None
            elif (failed := failure_file(self.folder, job.key)).exists():
                yield place, shown(failed.read_text(encoding="utf-8", errors="replace"))
            elif place in over:
                yield place, f"{over[place].failure} ({self.folder / 'logs'} has what it printed)"

    def _newly_over(self) -> dict[Place, Listed]:
        """Ask SLURM from time to time; return the jobs that had ended the last time, too.

        Until then a shared folder shows what a job has written.
        """
        if time.monotonic() < self._asked + POLL_SECONDS or not self._submitted:
            return {}
        self._asked = time.monotonic()
        if (listed := listed_jobs()) is None:
            return {}
        jobs = {place: listed.get(place, Listed()) for place in self._submitted}
        over = {place: job for place, job in jobs.items() if not job.is_alive}
        before, self._over = self._over, set(over)
        return {place: job for place, job in over.items() if place in before}

    def _submit(self, jobs: Sequence[Job]) -> None:
        """Submit jobs as an array, after its record is written."""
        from submitit.core.utils import FailedJobError
        from submitit.helpers import clean_env

        array = f"kd-{uuid4().hex[:12]}"
        for job in jobs:
            for path in (job.result, failure_file(self.folder, job.key)):
                path.unlink(missing_ok=True)
        with atomic_write(self._record(array)) as temporary:
            temporary.write_text(json.dumps([job.key for job in jobs]), encoding="utf-8")
        try:
            with clean_env():  # the study itself may run in a job of SLURM
                self._executor(array).map_array(OnNode(self.threads, self.folder), jobs)
        except FailedJobError as error:
            self._record(array).unlink()
            reason = shown(" ".join(str(error).split()))
            raise UserError(f"SLURM refuses the jobs of this study: {reason[:400]}") from error
        self._submitted |= {Place(array, number): job for number, job in enumerate(jobs)}

    def _executor(self, array: str) -> Any:
        """Return submitit's executor with the options of this study; those that are not given are the cluster's."""
        from submitit import AutoExecutor

        executor = AutoExecutor(self.folder / "logs", cluster="slurm", slurm_max_num_timeout=MOST_TIMEOUTS)
        given = {
            "slurm_partition": self.options.partition,
            "mem_gb": self.options.memory,
            "gpus_per_node": self.options.gpus or None,
        }
        executor.update_parameters(
            name=array,
            timeout_min=self.options.time,
            cpus_per_task=self.options.cpus or self.threads,
            slurm_signal_delay_s=WARNING_SECONDS,
            slurm_setup=self.options.setup,
            **{option: value for option, value in given.items() if value is not None},
        )
        return executor

    def _record(self, array: str) -> Path:
        return self.folder / f"{array}.json"

    def _failed(self, key: str) -> bool:
        return failure_file(self.folder, key).exists()

    def _find_earlier(self) -> dict[str, Place]:
        """Return where SLURM has the jobs of earlier processes, by their runs' keys; remove the records of others."""
        records = list(self.folder.glob("kd-*.json"))
        listed = listed_jobs() if records else {}
        if listed is None:
            raise UserError("squeue does not answer, so the jobs that this study has submitted are not found; retry.")
        found: dict[str, Place] = {}
        for path in records:
            keys = json.loads(path.read_bytes())
            places = {key: Place(path.stem, number) for number, key in enumerate(keys) if not self._failed(key)}
            alive = {key: place for key, place in places.items() if listed.get(place, Listed()).is_alive}
            found |= alive
            if not alive:
                path.unlink()
        return found

    def _hint(self) -> str:
        """Return what is kept of a stopped study."""
        kept = "every finished run is kept, and the same command resumes"
        places = {*self._submitted, *self._found.values()}
        listed = (listed_jobs() or {}) if places else {}
        numbers = {job.number.partition("_")[0] for place, job in listed.items() if place in places and job.is_alive}
        if not numbers:
            return f"{kept}."
        cancel = shlex.join(["scancel", *sorted(numbers, key=int)])
        return f"{kept}: SLURM goes on with the jobs that it has, which are found then. To cancel them: {cancel}"


def check_slurm() -> None:
    """Refuse to start where submitit or SLURM's commands are missing.

    Raises:
        UserError: They are.
    """
    try:
        from submitit import AutoExecutor
    except ImportError as error:
        raise UserError("--engine slurm needs submitit; install it with `pip install submitit`.") from error
    if AutoExecutor.which() != "slurm":
        raise UserError("--engine slurm needs SLURM, but there is no srun here; start the study on a login node.")
