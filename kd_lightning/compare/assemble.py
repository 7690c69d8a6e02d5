"""Collects a study's runs, with the settings that a reader needs to judge them."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version

import torch

from kd_lightning.compare.plan import PlannedRow
from kd_lightning.compare.results import Failure, Row, Run, Study
from kd_lightning.compare.runner import Cell, Results
from kd_lightning.compare.settings import Settings, TeacherPolicy
from kd_lightning.compare.store import read_classes, read_run
from kd_lightning.compare.study import Request
from kd_lightning.compare.study_plan import StudyPlan
from kd_lightning.data import ImageDataModule
from kd_lightning.machine.cpu import cores, cpu_name
from kd_lightning.wording import counted

PACKAGES = ("kd_lightning", "torch", "torchvision", "lightning", "onnxruntime")


def assemble(
    request: Request,
    planned: Sequence[PlannedRow],
    results: Results,
    data: ImageDataModule,
    *,
    no_costs: Mapping[str, str],
    plan: StudyPlan,
    reasons: Mapping[str, str],
    seeds: Sequence[int],
    jobs: int,
    command: str,
    new_study: str,
    seconds: float | None,
) -> Study:
    """Return the study with all its results.

    Args:
        request: The requested study.
        planned: The rows, the teacher first.
        results: The outcome of the runs.
        data: The baseline's data.
        no_costs: Why rows have no ONNX size and latency, by their names.
        plan: The plan, fixed before the first run.
        reasons: Why each compared row has no verdict; empty where the plan has it.
        seeds: The requested seeds.
        jobs: Largest number of runs at once.
        command: The command line that runs the study again.
        new_study: The command line of a study of the same rows with new seeds, without their number.
        seconds: Total time; ``None`` where some runs were finished before.
    """
    study = request.study
    rows = tuple(
        replace(
            _row(row, results, request),
            no_costs=no_costs.get(row.row.title, ""),
            exploratory=reasons.get(row.row.title, ""),
        )
        for row in planned
    )
    baseline = next(row for row in rows if row.role == "baseline")
    policy: TeacherPolicy = "one for all seeds" if study.teachers == "one" else "one per seed"
    settings = Settings(
        data=data.name,
        protocol=protocol(data),
        teacher=policy,
        epochs=max((len(run.curves.epochs) for run in baseline.runs), default=0),
        seeds=tuple(seeds),
        plan=plan,
        machine=machine(jobs, study.threads_each),
        versions={"Python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        command=command,
        new_study=new_study,
        date=_last_day(results),
        seconds=seconds,
    )
    return Study(request.name, settings, data.class_names, rows)


def protocol(data: ImageDataModule) -> str:
    """Describe which images train and validate, and when the test images are evaluated."""
    train, test = len(data.train_rows()[1]), len(data.test_rows()[1])
    if not data.has_val:
        parts = f"All {train:,} training images train, none validate"
    else:
        parts = f"{train:,} images train, {len(data.val_rows()[1]):,} validate"
    return f"{parts}; the {test:,} test images are looked at once a run, at its last epoch."


def machine(jobs: int, threads: int) -> str:
    """Describe the machine, and how many runs share it."""
    used = f"{cpu_name()}, {counted(cores(), 'core')}"
    if torch.cuda.is_available():
        used = f"{torch.cuda.get_device_name()}; {used}"
    return f"{used}; up to {counted(jobs, 'run')} at once with {counted(threads, 'CPU thread')} each"


def _last_day(results: Results) -> str:
    ends = [path.stat().st_mtime for path in results.files.values()]
    return datetime.fromtimestamp(max(ends), UTC).date().isoformat() if ends else ""


def _row(planned: PlannedRow, results: Results, request: Request) -> Row:
    row, name = planned.row, planned.row.title
    runs = [_run(cell, results, planned, request) for cell in results.files if cell.row == name]
    failures = [Failure(cell.seed, reason) for cell, reason in results.failures.items() if cell.row == name]
    return Row(
        name=name,
        config=row.config,
        role=planned.role,
        runs=tuple(sorted(runs, key=lambda run: run.seed)),
        failures=tuple(sorted(failures, key=lambda failure: failure.seed)),
        reported=None if row.reported is None else row.reported / 100,
    )


def _run(cell: Cell, results: Results, planned: PlannedRow, request: Request) -> Run:
    """Read a run; one without a teacher gets its agreement with the study's teacher."""
    run = replace(read_run(results.files[cell]), seed=cell.seed)
    teacher = request.study.teacher
    if planned.role == "teacher" or run.teacher_agreement is not None or teacher is None:
        return run
    shared = request.study.teachers == "one"
    taught = [of for of in results.files if of.row == teacher.title and (shared or of.seed == cell.seed)]
    if not taught:
        return run
    ours, theirs = (read_classes(results.files[of]) for of in (cell, taught[0]))
    return replace(run, teacher_agreement=float((ours == theirs).mean()))
