"""``compare``: run a study and report its results."""

import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from rich.console import Console

from kd_lightning.compare.assemble import assemble
from kd_lightning.compare.costs import add_costs
from kd_lightning.compare.estimate import estimate_rows, expectation
from kd_lightning.compare.make_plan import FILE as PLAN
from kd_lightning.compare.make_plan import PROGRAM, ensure_plan, new_study_command, row_digests
from kd_lightning.compare.plan import PlannedRow, plan_rows
from kd_lightning.compare.progress import Progress
from kd_lightning.compare.run_key import fingerprint
from kd_lightning.compare.runner import Results, Runner, cells
from kd_lightning.compare.store import write_study
from kd_lightning.compare.study import Request, read_request
from kd_lightning.compare.study_folder import claimed
from kd_lightning.compare.study_plan import StudyPlan
from kd_lightning.data import ImageDataModule
from kd_lightning.data.compatibility import check_data
from kd_lightning.errors import UserError
from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.machine import stopping
from kd_lightning.machine.cpu import cores
from kd_lightning.report.analysis import analyse
from kd_lightning.report.error_control import TYPICAL, new_study, seeds_in_words, trial
from kd_lightning.report.outputs import write_report
from kd_lightning.report.statistics import MIN_RUNS
from kd_lightning.report.text import to_terminal
from kd_lightning.training.console import quieten
from kd_lightning.training.first import print_weights

MAX_JOBS = 8


def main(args: Sequence[str]) -> int:
    """Run a study; return 0, or 1 where a run failed."""
    quieten()
    request = read_request(args[1:])
    console = Console()
    stopping.set_resume_hint(lambda: "every finished run is kept, and the same command resumes.")
    return compare(request, args, console)


def compare(request: Request, args: Sequence[str], console: Console) -> int:
    """Do the missing runs, print the report and write it to the study's folder."""
    start = time.monotonic()
    rows = plan_rows(request)
    for weights in sorted({row.built.found for row in rows if row.built.found is not None}):
        print_weights("Teacher", weights)
    data, fingerprints = read_data(rows)
    jobs = request.study.jobs or jobs_at_once(rows, request.study.threads_each)
    digests = row_digests(rows, fingerprints, request.study.teachers, request.study.threads_each)
    with claimed(request.output):
        plan = ensure_plan(request.study, digests, request.output)
        reasons = {name: plan.reason(name, digest) for name, digest in digests.items()}
        command = new_study_command(args, plan, request.output)
        print_plan(plan, reasons, request.output, command, console)
        runner = _runner(request, rows, fingerprints, plan, jobs, console)
        for seeds in stages(plan, request.study.seeds):
            results = runner.run(seeds)
            no_costs = _add_costs(rows, results, console) if request.study.onnx else {}
            study = assemble(
                request,
                rows,
                results,
                data,
                no_costs=no_costs,
                plan=plan,
                reasons=reasons,
                seeds=seeds,
                jobs=jobs,
                command=shlex.join([*PROGRAM, *args]),
                new_study=command,
                seconds=None if results.reused else time.monotonic() - start,
            )
            write_study(study, request.output / "study.json")
            analysis = analyse(study)
            page, *_ = write_report(analysis, request.output)
            if not analysis.goes_on:
                break
    console.print("", to_terminal(analysis))
    places = [f"Report: {page}", f"Curves: tensorboard --logdir {request.output / 'logs'}"]
    console.print("\n".join([*new_study(study, analysis.compared), *places]), markup=False, soft_wrap=True)
    return 1 if results.failures else 0


def stages(plan: StudyPlan, seeds: int | None) -> list[range]:
    """Return the seeds up to each look, one after another; all at once where another number of seeds is requested."""
    most = seeds or plan.looks[-1]
    numbers = plan.looks if most == plan.looks[-1] and not plan.exploratory else (most,)
    return [range(plan.first_seed, plan.first_seed + number) for number in numbers]


def print_plan(plan: StudyPlan, reasons: Mapping[str, str], folder: Path, new_command: str, console: Console) -> None:
    """Print, before the first run, which rows get a verdict, and which do not."""
    lines = [f"Plan: {seeds_in_words(plan)} ({folder / PLAN})."]
    if plan.looks[-1] < MIN_RUNS:
        lines.append(f"{trial(plan.looks[-1])}.")
    if plan.started > plan.looks[-1]:
        lines.append(f"Seeds from {plan.seeds.stop} on are more than planned: they change no verdict.")
    for reason in dict.fromkeys(filter(None, reasons.values())):
        names = ", ".join(name for name, of_row in reasons.items() if of_row == reason)
        lines.append(f"No verdict on {names}: {reason}.")
    if plan.looks[-1] < MIN_RUNS or any(reasons.values()):
        lines.append(f"A new study has new seeds, and verdicts: {new_command} --seeds {TYPICAL}")
    console.print("\n".join(lines), markup=False, soft_wrap=True)


def read_data(rows: Sequence[PlannedRow]) -> tuple[ImageDataModule, dict[str, dict[str, str]]]:
    """Read the data, which downloads and decodes it where that is needed, before any run needs it.

    Returns:
        The baseline's data, and the fingerprint of each row's, by the row's name.

    Raises:
        UserError: Two rows have different test images, or a row's data differ from its teacher's.
    """
    known: list[tuple[object, ImageDataModule, dict[str, str]]] = []
    of_row: dict[str, tuple[ImageDataModule, dict[str, str]]] = {}
    for row in rows:
        found = next((entry for entry in known if entry[0] == row.config["data"]), None)
        if found is None:
            row.data.prepare_data()
            found = (row.config["data"], row.data, fingerprint(row.data))
            known.append(found)
        of_row[row.row.title] = found[1:]
    if len({(prints["test"], prints["classes"]) for _, _, prints in known}) > 1:
        raise UserError("the rows of a study must be tested on the same images; give all its configs the same data.")
    _check_teachers_data(rows, {title: data for title, (data, _) in of_row.items()})
    baseline = next(row.row.title for row in rows if row.role == "baseline")
    return of_row[baseline][0], {name: prints for name, (_, prints) in of_row.items()}


def _check_teachers_data(rows: Sequence[PlannedRow], of_row: Mapping[str, ImageDataModule]) -> None:
    """Compare the teacher's data, as its file will describe them, with the data of the rows that learn from it."""
    teacher = next((of_row[row.row.title] for row in rows if row.role == "teacher"), None)
    if teacher is None:
        return
    seen = teacher.normalization
    info = ModelInfo(
        "",
        {},
        teacher.class_names,
        seen.mean,
        seen.std,
        teacher.image_size,
        teacher.name,
        pixel_range=teacher.pixel_range,
    )
    for title in (row.row.title for row in rows if row.learns):
        check_data(f"the teacher of the row '{title}'", info, of_row[title])


def jobs_at_once(rows: Sequence[PlannedRow], threads: int) -> int:
    """Return how many runs fit on this machine at once: one on an accelerator, or as many as the cores allow."""
    if torch.accelerator.is_available() and any(row.config["trainer"]["accelerator"] != "cpu" for row in rows):
        return 1
    return max(1, min(MAX_JOBS, cores() // threads))


def _runner(
    request: Request,
    rows: Sequence[PlannedRow],
    fingerprints: dict[str, dict[str, str]],
    plan: StudyPlan,
    jobs: int,
    console: Console,
) -> Runner:
    study, (*earlier, seeds) = request.study, stages(plan, request.study.seeds)
    shared = study.teachers == "one"
    total = len(cells(rows, seeds, shared_teacher=shared))
    text = (
        f"{request.name}: {'up to ' if earlier else ''}{total} runs, {jobs} at once; each is kept in {request.output}"
    )
    console.print(text, markup=False, soft_wrap=True)
    expected: dict[str, float] = {}
    runner = Runner(
        rows,
        seeds,
        fingerprints,
        request.output,
        shared_teacher=shared,
        jobs=jobs,
        threads=study.threads_each,
        progress=Progress(total, jobs, console, expected),
    )
    missing = runner.missing()
    with console.status("timing a few steps of each row"):
        estimates = estimate_rows([row for row in rows if row.row.title in missing], study.threads_each)
    expected |= {name: found.run for name, found in estimates.items()}
    teachers = 1 if shared or study.teacher is None else len(seeds)
    console.print(expectation(estimates, missing, teachers, jobs), markup=False, soft_wrap=True)
    return runner


def _add_costs(rows: Sequence[PlannedRow], results: Results, console: Console) -> dict[str, str]:
    """Measure the network of each row's first run; return the reasons of failures, by the row's name."""
    networks = {row.row.title: row.built.model.network.class_path for row in rows}
    last_to_first = sorted(results.files.items(), key=lambda item: -item[0].seed)
    with console.status("measuring ONNX size and latency"):
        failures = add_costs({cell.row: path for cell, path in last_to_first}, networks)
    for name, reason in failures.items():
        console.print(f"{name}: no ONNX size and latency: {reason}", markup=False, soft_wrap=True)
    return failures
