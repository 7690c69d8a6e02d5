"""Runs the missing runs of a study, teachers first."""

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from kd_lightning.compare.engines import Engine
from kd_lightning.compare.hyperparameters import hyperparameters
from kd_lightning.compare.progress import Progress
from kd_lightning.compare.results import Run
from kd_lightning.compare.rows import PlannedRow
from kd_lightning.compare.run_key import relevant, weights_hash
from kd_lightning.compare.store import ended_run, finished_run, read_run, weights_file
from kd_lightning.compare.worker import Job
from kd_lightning.sources import package_version
from kd_lightning.wording import duration, shown


class RunName(NamedTuple):
    """Names a run in a study: its row and its seed."""

    row: str
    seed: int


@dataclass
class Results:
    """The outcome of the runs.

    Attributes:
        files: The file of each finished run; its weights lie beside it.
        failures: Why the others failed, in one line each.
        reused: Number of runs that were finished before.
    """

    files: dict[RunName, Path] = field(default_factory=dict)
    failures: dict[RunName, str] = field(default_factory=dict)
    reused: int = 0


class Runner:
    """Runs the missing runs of a study.

    Args:
        rows: Its rows, the teacher first.
        seeds: Its seeds.
        folder: The study's folder.
        teacher_seed: The seed of the one teacher of all runs; ``None`` where each seed has its own.
        engine: What does the runs.
        progress: Prints how far it is.
        tuning: Whether the runs are measured on validation images only, to choose among their rows.
    """

    def __init__(
        self,
        rows: Sequence[PlannedRow],
        seeds: Sequence[int],
        folder: Path,
        *,
        teacher_seed: int | None,
        engine: Engine,
        progress: Progress,
        tuning: bool = False,
    ) -> None:
        self.rows = {row.title: row for row in rows}
        self._shown = hyperparameters(
            {name: relevant(row.config, learns=row.learns) for name, row in self.rows.items()}
        )
        self.folder = folder
        self.engine = engine
        self.progress = progress
        self.results = Results()
        self._teacher = next((row.title for row in rows if row.role == "teacher"), "")
        self._only_teacher = teacher_seed
        self._tuning = tuning
        self._files: dict[RunName, Path] = {}
        self._hashes: dict[RunName, str] = {}
        self._running: set[Path] = set()
        self._waiting = run_names(rows, seeds, teacher_seed)

    def missing(self) -> list[str]:
        """Return the rows of the missing runs, a name for each run."""
        found: dict[Path | RunName, RunName] = {}
        for name in self._waiting:
            teacher = self._teacher_of(name)
            if teacher is not None and finished_run(self._result(teacher)) is None:
                found[name] = name  # which result it will be depends on the teacher's weights
            elif finished_run(result := self._result(name)) is None:
                found.setdefault(result, name)  # a row with the same config needs no run of its own
        return [name.row for name in found.values()]

    def run(self, seeds: Sequence[int]) -> Results:
        """Run the missing runs of some seeds, and the one teacher; one that fails does not end the others."""
        now = {*seeds, self._only_teacher}
        later = [name for name in self._waiting if name.seed not in now]
        self._waiting = [name for name in self._waiting if name.seed in now]
        ended: list[tuple[Job, str | None]] = []
        with self.progress.status, closing(self.engine):
            while self._waiting or self.engine.running or ended:
                self._start_more()  # before what has ended is read, so that no process waits for that
                for job, failure in ended:
                    self._ended(job, failure)
                self.progress.show(self._rows_waiting())
                ended = self.engine.wait(seconds=0.0 if ended else 1.0)
        self._waiting = later
        return self.results

    def _start_more(self) -> None:
        for name in list(self._waiting):
            if not self.engine.has_room:
                break
            self._start(name)

    def _start(self, name: RunName) -> None:
        """Start a run if its teacher is ready, or reuse its results if it is finished."""
        teacher = self._teacher_of(name)
        if teacher in self.results.failures:
            self._waiting.remove(name)
            self._fail(name, f"its teacher (seed {teacher.seed}) failed")
        elif teacher is not None and teacher not in self.results.files:
            return
        elif self._result(name) in self._running:
            return  # a row with the same config runs already
        elif (found := finished_run(self._result(name))) is not None:
            self._waiting.remove(name)
            self._reuse(name, found)
        else:
            self._waiting.remove(name)
            self._running.add(self._result(name))
            self.engine.start(self._job(name))
            self.progress.started(*name)

    def _teacher_of(self, name: RunName) -> RunName | None:
        if not self.rows[name.row].learns:
            return None
        return RunName(self._teacher, name.seed if self._only_teacher is None else self._only_teacher)

    def _weights(self, name: RunName) -> Path | None:
        """Return the weights of a run's teacher, which is trained."""
        teacher = self._teacher_of(name)
        return None if teacher is None else weights_file(self._result(teacher))

    def _hash_of_teacher(self, name: RunName) -> str | None:
        """Return the hash of the weights of a run's teacher, which is trained."""
        teacher = self._teacher_of(name)
        if teacher is None:
            return None
        if teacher not in self._hashes:
            self._note_teacher(teacher, read_run(self._result(teacher)))
        return self._hashes[teacher]

    def _note_teacher(self, name: RunName, found: Run) -> None:
        self._hashes[name] = found.weights or weights_hash(weights_file(self._result(name)))

    def _result(self, name: RunName) -> Path:
        """Return the file of a run's results, named by the key of all that it depends on."""
        if name not in self._files:
            key = self.rows[name.row].key(name.seed, self._hash_of_teacher(name), self.engine.threads)
            self._files[name] = self.folder / "runs" / f"{'tuning_' if self._tunes(name) else ''}{key}.json"
        return self._files[name]

    def _tunes(self, name: RunName) -> bool:
        """Whether a run is measured on validation images only; a teacher is not, and chooses nothing."""
        return self._tuning and name.row != self._teacher

    def _job(self, name: RunName) -> Job:
        row = self.rows[name.row]
        folder = self.folder / "logs" / row.row.folder / f"seed_{name.seed}"
        hparams = {**name._asdict(), **self._shown[name.row]}
        args = row.run_args(name.seed, self._weights(name))
        return Job(*name, args, folder, self._result(name), hparams, tuning=self._tunes(name))

    def _ended(self, job: Job, failure: str | None) -> None:
        self._running.discard(job.result)
        name, found = RunName(job.row, job.seed), ended_run(job.result)
        if failure is None and found is not None:
            self.results.files[name] = job.result
            if name.row == self._teacher:
                self._note_teacher(name, found)
            self._print(name, f"{_accuracy(found)} after {duration(found.training_seconds)} of training")
        else:
            self._fail(name, failure or "it left no results")

    def _reuse(self, name: RunName, found: Run) -> None:
        self.results.files[name] = self._result(name)
        self.results.reused += 1
        other = "" if found.made_by == package_version() else f", made by kd_lightning {shown(found.made_by)}"
        self._print(name, f"{_accuracy(found)}, reused{other}")

    def _fail(self, name: RunName, reason: str) -> None:
        self.results.failures[name] = reason
        self._print(name, f"failed: {reason}")

    def _print(self, name: RunName, text: str) -> None:
        self.progress.ended(*name, text, self._rows_waiting())

    def _rows_waiting(self) -> Counter[str]:
        return Counter(name.row for name in self._waiting)


def _accuracy(run: Run) -> str:
    """Return the accuracy on the test images, or of a tuning run on the validation images."""
    if len(run.labels):
        return f"{100 * run.test_accuracy:.2f} %"
    return f"{100 * run.curves.val_accuracy[-1]:.2f} % of the validation images"


def run_names(rows: Sequence[PlannedRow], seeds: Sequence[int], teacher_seed: int | None) -> list[RunName]:
    """Return the runs of a study, the teachers first, then seed by seed, so that pairs are complete early."""
    teachers = [row.title for row in rows if row.role == "teacher"]
    others = [row.title for row in rows if row.role != "teacher"]
    of_teachers = [
        RunName(name, seed) for name in teachers for seed in (seeds if teacher_seed is None else [teacher_seed])
    ]
    return of_teachers + [RunName(name, seed) for seed in seeds for name in others]
