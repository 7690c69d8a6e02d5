"""Runs the missing runs of a study, teachers first."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from kd_lightning.compare.hyperparameters import hyperparameters
from kd_lightning.compare.plan import PlannedRow
from kd_lightning.compare.pool import Pool
from kd_lightning.compare.progress import Progress
from kd_lightning.compare.results import Run
from kd_lightning.compare.run_key import code_versions, relevant, run_key
from kd_lightning.compare.store import classes_file, read_classes, read_run, weights_file
from kd_lightning.compare.worker import Job
from kd_lightning.errors import UserError
from kd_lightning.networks.weights import read_weights
from kd_lightning.wording import duration


class Cell(NamedTuple):
    """A run's place in the study."""

    row: str
    seed: int


@dataclass
class Results:
    """The outcome of the runs.

    Attributes:
        files: The file of each finished run; its weights and predicted classes lie beside it.
        failures: Why the others failed, in one line each.
        reused: Number of runs that were finished before.
    """

    files: dict[Cell, Path] = field(default_factory=dict)
    failures: dict[Cell, str] = field(default_factory=dict)
    reused: int = 0


class Runner:
    """Runs the missing runs of a study.

    Args:
        rows: Its rows, the teacher first.
        seeds: Its seeds.
        data: The fingerprint of each row's data, by the row's name.
        folder: The study's folder.
        shared_teacher: Whether the first seed's teacher teaches all seeds.
        jobs: Runs at once.
        threads: CPU threads of each.
        progress: Prints how far it is.
    """

    def __init__(
        self,
        rows: Sequence[PlannedRow],
        seeds: Sequence[int],
        data: dict[str, dict[str, str]],
        folder: Path,
        *,
        shared_teacher: bool,
        jobs: int,
        threads: int,
        progress: Progress,
    ) -> None:
        self.rows = {row.row.title: row for row in rows}
        self._shown = hyperparameters(
            {name: relevant(row.config, learns=row.learns) for name, row in self.rows.items()}
        )
        self.data = data
        self._code = code_versions({name: row.config for name, row in self.rows.items()})
        self.folder = folder
        self.pool = Pool(jobs, threads)
        self.progress = progress
        self.results = Results()
        self._teacher = next((row.row.title for row in rows if row.role == "teacher"), "")
        self._only_teacher = seeds[0] if shared_teacher else None
        self._files: dict[Cell, Path] = {}
        self._waiting = cells(rows, seeds, shared_teacher=shared_teacher)

    def missing(self) -> list[str]:
        """Return the rows of the missing runs, a name for each run."""
        results: dict[object, Cell] = {}
        for cell in self._waiting:
            teacher = self._teacher_of(cell)
            if teacher is not None and finished_run(self._result(teacher, None)) is None:
                results[cell] = cell  # which result it will be depends on the teacher's weights
                continue
            result = self._result(cell, weights_file(self._result(teacher, None)) if teacher else None)
            if finished_run(result) is None:
                results.setdefault(result, cell)  # a row with the same config needs no run of its own
        return [cell.row for cell in results.values()]

    def run(self, seeds: Sequence[int]) -> Results:
        """Run the missing runs of some seeds; one that fails does not end the others."""
        later = [cell for cell in self._waiting if cell.seed not in seeds]
        self._waiting = [cell for cell in self._waiting if cell.seed in seeds]
        with self.progress, self.pool:
            while self._waiting or self.pool.running:
                self._start()
                for job, failure in self.pool.wait(seconds=1.0):
                    self._ended(job, failure)
                self.progress.show(self._rows_waiting())
        self._waiting = later
        return self.results

    def _start(self) -> None:
        """Start the runs whose teachers are ready, and reuse the finished ones."""
        for cell in list(self._waiting):
            teacher = self._teacher_of(cell)
            if teacher in self.results.failures:
                self._waiting.remove(cell)
                self._fail(cell, f"its teacher (seed {teacher.seed}) failed")
            elif teacher is None or teacher in self.results.files:
                self._start_or_reuse(cell, self.results.files[teacher] if teacher else None)

    def _teacher_of(self, cell: Cell) -> Cell | None:
        if not self.rows[cell.row].learns:
            return None
        return Cell(self._teacher, cell.seed if self._only_teacher is None else self._only_teacher)

    def _start_or_reuse(self, cell: Cell, teacher: Path | None) -> None:
        weights = weights_file(teacher) if teacher else None
        result = self._result(cell, weights)
        if any(job.result == result for job in self.pool.running):
            return  # a row with the same config runs already
        if (found := finished_run(result)) is not None:
            self._reuse(cell, result, found)
        elif self.pool.has_room:
            self._waiting.remove(cell)
            self.pool.start(self._job(cell, result, weights))
            self.progress.started(*cell)

    def _result(self, cell: Cell, weights: Path | None) -> Path:
        """Return the file of a run's results, named by the key of all that it depends on."""
        if cell not in self._files:
            config, data = self.rows[cell.row].config, self.data[cell.row]
            code, threads = self._code[cell.row], self.pool.threads
            key = run_key(config, cell.seed, data=data, teacher=weights, threads=threads, code=code)
            self._files[cell] = self.folder / "runs" / f"{key}.json"
        return self._files[cell]

    def _job(self, cell: Cell, result: Path, weights: Path | None) -> Job:
        row = self.rows[cell.row]
        folder = self.folder / "logs" / row.row.folder / f"seed_{cell.seed}"
        shown = {"row": cell.row, "seed": cell.seed, **self._shown[cell.row]}
        return Job(cell.row, row.run_args(cell.seed, weights), cell.seed, folder, result, shown)

    def _ended(self, job: Job, failure: str | None) -> None:
        cell, found = Cell(job.row, job.seed), finished_run(job.result)
        if failure is None and found is not None:
            self.results.files[cell] = job.result
            self._print(cell, f"{100 * found.test_accuracy:.2f} % after {duration(found.training_seconds)} of training")
        else:
            self._fail(cell, failure or "it left no results")

    def _reuse(self, cell: Cell, result: Path, found: Run) -> None:
        self._waiting.remove(cell)
        self.results.files[cell] = result
        self.results.reused += 1
        self._print(cell, f"{100 * found.test_accuracy:.2f} %, reused")

    def _fail(self, cell: Cell, reason: str) -> None:
        self.results.failures[cell] = reason
        self._print(cell, f"failed: {reason}")

    def _print(self, cell: Cell, text: str) -> None:
        self.progress.ended(*cell, text, self._rows_waiting())

    def _rows_waiting(self) -> list[str]:
        return [cell.row for cell in self._waiting]


def cells(rows: Sequence[PlannedRow], seeds: Sequence[int], *, shared_teacher: bool) -> list[Cell]:
    """Return the runs of a study, the teachers first, then seed by seed, so that pairs are complete early."""
    teachers = [row.row.title for row in rows if row.role == "teacher"]
    others = [row.row.title for row in rows if row.role != "teacher"]
    of_teachers = [Cell(name, seed) for name in teachers for seed in (seeds[:1] if shared_teacher else seeds)]
    return of_teachers + [Cell(name, seed) for seed in seeds for name in others]


def finished_run(result: Path) -> Run | None:
    """Return a finished run; ``None`` where it, its weights or its predicted classes are missing or damaged."""
    if not all(path.is_file() for path in (result, weights_file(result), classes_file(result))):
        return None
    try:
        run = read_run(result)
        read_weights(weights_file(result))
        read_classes(result)
        return run
    except UserError:  # damaged, or written by an older version
        return None
