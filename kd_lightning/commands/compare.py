"""``compare``: run a study and report its results."""

import shlex
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from kd_lightning.compare.assemble import assemble, machine, protocol, versions
from kd_lightning.compare.choice import tuning_seeds
from kd_lightning.compare.costs import add_costs
from kd_lightning.compare.digests import row_digests, setting_digests
from kd_lightning.compare.engines import Engine
from kd_lightning.compare.engines.ray import RayEngine, check_ray
from kd_lightning.compare.engines.slurm import SlurmEngine, check_slurm
from kd_lightning.compare.estimate import estimate_rows, expectation
from kd_lightning.compare.pool import Pool
from kd_lightning.compare.progress import Progress, print_on
from kd_lightning.compare.results import Settings
from kd_lightning.compare.rows import PlannedRow, plan_rows, read_data
from kd_lightning.compare.runner import Results, Runner, run_names
from kd_lightning.compare.store import claimed
from kd_lightning.compare.study import Request, StudyConfig, read_request
from kd_lightning.compare.study_plan import FILE as PLAN
from kd_lightning.compare.study_plan import StudyPlan, add_choices, ensure_plan, new_study_command
from kd_lightning.compare.tuning import Tuning
from kd_lightning.machine import stopping
from kd_lightning.machine.cpu import cores
from kd_lightning.machine.terminal import PROGRAM
from kd_lightning.report.analysis import Analysis, analyse
from kd_lightning.report.choices import choice_sentence
from kd_lightning.report.error_control import TYPICAL, new_study, seeds_in_words, trial
from kd_lightning.report.outputs import write_report
from kd_lightning.report.statistics import MIN_RUNS
from kd_lightning.report.text import to_terminal
from kd_lightning.training.console import quieten
from kd_lightning.training.first import print_weights

MAX_JOBS = 8
UNLIMITED = 10_000
"""Runs at once where the cluster decides."""


def main(args: Sequence[str]) -> int:
    """Run a study; return 0, or 1 where a run failed."""
    quieten()
    request = read_request(args[1:])
    stopping.set_resume_hint(lambda: "every finished run is kept, and the same command resumes.")
    console = Console()
    analysis, page = compare(request, args, console)
    console.print("", to_terminal(analysis))
    places = [f"Report: {page}", f"Curves: tensorboard --logdir {request.output / 'logs'}"]
    lines = [*new_study(analysis.study, analysis.compared), *places]
    print_on(console, "\n".join(lines))
    return 1 if any(row.failures for row in analysis.study.rows) else 0


def compare(request: Request, args: Sequence[str], console: Console) -> tuple[Analysis, Path]:
    """Do the missing runs and write the report to the study's folder; return its content and its page."""
    start, study = time.monotonic(), request.study
    if study.engine == "slurm":
        check_slurm()
    elif study.engine == "ray":
        check_ray()
    rows = plan_rows(request)
    for weights in sorted({path for row in rows for path in row.built.found.values()}):
        print_weights("Teacher", weights)
    read_data(rows)
    digests = row_digests(rows, study)
    with claimed(request.output):
        resumed = any(request.output.glob("runs/*.json"))
        plan = ensure_plan(study, digests, request.output, setting_digests(rows, study))
        for row in rows:
            row.exploratory = plan.reason(row.title, digests[row.title]) if row.role == "student" else ""
        settings = _settings(request, rows, plan, args)
        print_plan(rows, settings, request.output, console)
        rows, plan = _choose_settings(request, rows, plan, console)
        settings = replace(settings, plan=plan)
        runner = _runner(request, rows, plan, console)
        settings = replace(settings, machine=machine(runner.engine.jobs, study.threads_each))
        for seeds in plan.stages(study.seeds):
            results = runner.run(seeds)
            no_costs = _add_costs(rows, results, console) if study.onnx else {}
            settings = replace(settings, seeds=tuple(seeds))
            seconds = None if resumed else time.monotonic() - start
            done = assemble(request, rows, results, settings, no_costs, seconds)
            analysis = analyse(done)
            page, *_ = write_report(analysis, request.output)
            if not analysis.goes_on:
                break
    return analysis, page


def jobs_at_once(rows: Sequence[PlannedRow], study: StudyConfig) -> int:
    """Return how many runs are done at once: by default one on an accelerator, or as many as the cores allow."""
    if study.jobs or study.engine != "local":
        return study.jobs or UNLIMITED
    if torch.accelerator.is_available() and any(row.config["trainer"]["accelerator"] != "cpu" for row in rows):
        return 1
    return max(1, min(MAX_JOBS, cores() // study.threads_each))


def _settings(request: Request, rows: Sequence[PlannedRow], plan: StudyPlan, args: Sequence[str]) -> Settings:
    """Return how the study is run, without what only its runs show."""
    study, data = request.study, next(row.data for row in rows if row.role == "baseline")
    return Settings(
        data=data.name,
        protocol=protocol(data),
        teacher="one for all seeds" if study.teachers == "one" else "one per seed",
        epochs=0,
        seeds=(),
        plan=plan,
        machine="",
        versions=versions(),
        command=shlex.join([PROGRAM, *args]),
        new_study=new_study_command(args, plan, request.output),
    )


def print_plan(rows: Sequence[PlannedRow], settings: Settings, folder: Path, console: Console) -> None:
    """Print, before the first run, which rows get a verdict, and which do not."""
    plan = settings.plan
    lines = [f"Plan: {seeds_in_words(plan)} ({folder / PLAN})."]
    if plan.looks[-1] < MIN_RUNS:
        lines.append(f"{trial(plan.looks[-1])}.")
    if plan.started > plan.looks[-1]:
        lines.append(f"Seeds from {plan.seeds.stop} on are more than planned: they change no verdict.")
    reasons = dict.fromkeys(row.exploratory for row in rows if row.exploratory)
    for reason in reasons:
        names = ", ".join(row.title for row in rows if row.exploratory == reason)
        lines.append(f"No verdict on {names}: {reason}.")
    if plan.looks[-1] < MIN_RUNS or reasons:
        lines.append(f"A new study has new seeds, and verdicts: {settings.new_study} --seeds {TYPICAL}")
    print_on(console, "\n".join(lines))


def _choose_settings(
    request: Request, rows: list[PlannedRow], plan: StudyPlan, console: Console
) -> tuple[list[PlannedRow], StudyPlan]:
    """Choose the settings of rows that have several; return the rows, and the plan with the choices."""
    if not any(row.settings for row in rows):
        return rows, plan
    seeds = tuning_seeds(plan.first_seed, request.study.tuning_seeds)
    teachers = [row for row in rows if row.role == "teacher"]

    def run(settings: Sequence[PlannedRow]) -> Results:
        return _runner(request, [*teachers, *settings], plan, console, seeds).run(seeds)

    rows = Tuning(request, rows, seeds, run).choose(plan)
    choices = {row.title: row.choice for row in rows if row.choice is not None}
    print_on(console, "\n".join(choice_sentence(name, choice) for name, choice in choices.items()))
    return rows, add_choices(plan, choices, row_digests(rows, request.study), request.output)


def _runner(
    request: Request, rows: Sequence[PlannedRow], plan: StudyPlan, console: Console, tuning: Sequence[int] = ()
) -> Runner:
    """Return what does the runs of the study, or those of its tuning seeds, after printing how long they take."""
    study, (*earlier, seeds) = request.study, [tuning] if tuning else plan.stages(request.study.seeds)
    teacher, threads = study.shared_teacher(plan.first_seed), study.threads_each
    total = len(run_names(rows, seeds, teacher))
    engine = _engine(request, min(total, jobs_at_once(rows, study)))
    jobs = min(total, engine.jobs)
    runs = f"{'up to ' if earlier else ''}{total} runs{' to choose settings' if tuning else ''}, {jobs} at once"
    print_on(console, f"{request.name}: {runs}; each is kept in {request.output}")
    known = None if study.engine == "slurm" else jobs
    progress = Progress(total, known, console)
    how: dict[str, Any] = {"teacher_seed": teacher, "tuning": bool(tuning)}
    runner = Runner(rows, seeds, request.output, engine=engine, progress=progress, **how)
    missing = runner.missing()
    with console.status("timing a few steps of each row"):
        timed = {(row.row.config if tuning else row.title): row for row in rows if row.title in missing}
        estimates = estimate_rows(list(timed.values()) if study.engine == "local" else [], threads)
    progress.expected = {name: found.run for name, found in estimates.items()}
    teachers = 1 if teacher is not None or study.teacher is None else len(seeds)
    print_on(console, expectation(estimates, missing, teachers, known))
    return runner


def _engine(request: Request, jobs: int) -> Engine:
    study = request.study
    if study.engine == "slurm":
        return SlurmEngine(study.slurm, request.output, jobs=jobs, threads=study.threads_each)
    if study.engine == "ray":
        return RayEngine(study.ray, jobs=study.jobs, threads=study.threads_each)
    return Pool(jobs, study.threads_each)


def _add_costs(rows: Sequence[PlannedRow], results: Results, console: Console) -> dict[str, str]:
    """Measure the network of each row's first run; return the reasons of failures, by the row's name."""
    networks = {row.title: row.built.model.network.class_path for row in rows}
    last_to_first = sorted(results.files.items(), key=lambda item: -item[0].seed)
    with console.status("measuring ONNX size and latency"):
        failures = add_costs({name.row: path for name, path in last_to_first}, networks)
    for row, reason in failures.items():
        print_on(console, f"{row}: no ONNX size and latency: {reason}")
    return failures
