"""Collects a study's runs, with the settings that a reader needs to judge them."""

import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version

import torch

from kd_lightning.compare.results import Failure, Row, Run, Settings, Study
from kd_lightning.compare.rows import PlannedRow
from kd_lightning.compare.runner import Results, RunName
from kd_lightning.compare.store import read_run
from kd_lightning.compare.study import Request
from kd_lightning.data import ImageDataModule
from kd_lightning.machine.cpu import cores, cpu_name
from kd_lightning.sources import package_version
from kd_lightning.wording import counted, labels_in_words, shown

PACKAGES = ("kd_lightning", "torch", "torchvision", "lightning", "onnxruntime")


def assemble(
    request: Request,
    planned: Sequence[PlannedRow],
    results: Results,
    settings: Settings,
    no_costs: Mapping[str, str],
    seconds: float | None,
) -> Study:
    """Return the study with all its results.

    Args:
        request: The requested study.
        planned: The rows, the teacher first.
        results: The outcome of the runs.
        settings: How it was run, without what only its runs show.
        no_costs: Why rows have no ONNX size and latency, by their names.
        seconds: Time since it was started; ``None`` where it was resumed.
    """
    rows = tuple(_row(row, results, request, no_costs.get(row.title, "")) for row in planned)
    epochs = [len(run.curves.epochs) for row in rows if row.role == "baseline" for run in row.runs]
    ends = [path.stat().st_mtime for path in results.files.values()]
    settings = replace(
        settings,
        epochs=max(epochs, default=0),
        date=datetime.fromtimestamp(max(ends), UTC).date().isoformat() if ends else "",
        seconds=None if results.reused else seconds,
        other_versions=other_versions(rows, str(request.output / "runs")),
        other_machines=other_machines(rows),
        machine=settings.machine if request.study.engine == "local" else cluster(rows, request.study.engine),
    )
    data = next(row.data for row in planned if row.role == "baseline")
    return Study(request.name, settings, data.class_names, rows)


def other_versions(rows: Sequence[Row], folder: str) -> str:
    """Return a sentence on the runs that another version of this package made; empty where there are none.

    Args:
        rows: The rows of a study.
        folder: The folder of its runs.
    """
    counts = Counter(run.made_by for row in rows for run in row.runs)
    current = package_version()
    others = [f"{counted(count, 'run')} by {shown(made_by)}" for made_by, count in counts.items() if made_by != current]
    if not others:
        return ""
    return (
        f"Other versions of kd_lightning made {', '.join(others)}; this is {current}, and a difference between "
        f"versions can look like one between rows. To do all runs again with this version, remove {folder}."
    )


def other_machines(rows: Sequence[Row]) -> str:
    """Return a sentence on the seeds whose runs were not made on like machines; empty where there are none."""
    kinds: dict[int, set[str]] = {}
    for run in (run for row in rows for run in row.runs if run.made_on):
        known = [f"{name} {value}" for name, value in run.made_on.items() if name not in ("host", "device")]
        kinds.setdefault(run.seed, set()).add(", ".join([run.made_on.get("device", ""), *known]))
    unlike = [found for found in kinds.values() if len(found) > 1]
    if not unlike:
        return ""
    machines = "; ".join(shown(kind) for kind in sorted(set().union(*unlike)))
    return (
        f"The runs of {counted(len(unlike), 'seed')} were made on machines that differ ({machines}): they are less "
        "alike than pairs should be, and a difference between machines can look like one between rows."
    )


def cluster(rows: Sequence[Row], engine: str) -> str:
    """Describe the machines of a cluster that made the runs."""
    made = [run.made_on for row in rows for run in row.runs if run.made_on]
    devices = "; ".join(shown(device) for device in sorted({on.get("device", "") for on in made}))
    hosts = counted(len({on.get("host", "") for on in made}), "host")
    return f"{devices}; {hosts} of a cluster ({engine})" if made else f"a cluster ({engine})"


def machine(jobs: int, threads: int) -> str:
    """Describe the machine, and how many runs share it."""
    used = f"{cpu_name()}, {counted(cores(), 'core')}"
    if torch.cuda.is_available():
        used = f"{torch.cuda.get_device_name()}; {used}"
    return f"{used}; up to {counted(jobs, 'run')} at once with {counted(threads, 'CPU thread')} each"


def protocol(data: ImageDataModule) -> str:
    """Describe which images train and validate, and when the test images are evaluated."""
    train, test = len(data.train_rows()[1]), len(data.test_rows()[1])
    labels = labels_in_words(train, data.num_unlabelled)
    if not data.has_val:
        parts = f"All {train:,} training images{labels} train, none validate"
    else:
        parts = f"{train:,} images{labels} train, {len(data.val_rows()[1]):,} validate"
    return f"{parts}; the {test:,} test images are looked at once a run, at its last epoch."


def versions() -> dict[str, str]:
    """Return the versions that a report names."""
    return {"Python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def _row(planned: PlannedRow, results: Results, request: Request, no_costs: str) -> Row:
    row = planned.row
    runs = [_run(name, results, planned, request) for name in results.files if name.row == row.title]
    failures = [Failure(name.seed, reason) for name, reason in results.failures.items() if name.row == row.title]
    return Row(
        name=row.title,
        config=row.config,
        role=planned.role,
        runs=tuple(sorted(runs, key=lambda run: run.seed)),
        failures=tuple(sorted(failures, key=lambda failure: failure.seed)),
        reported=None if row.reported is None else row.reported / 100,
        no_costs=no_costs,
        exploratory=planned.exploratory,
        choice=planned.choice,
    )


def _run(name: RunName, results: Results, planned: PlannedRow, request: Request) -> Run:
    """Read a run; one without a teacher gets its agreement with the study's teacher."""
    run = replace(read_run(results.files[name]), seed=name.seed)
    teacher = request.study.teacher
    if planned.role == "teacher" or run.teacher_agreement is not None or teacher is None:
        return run
    shared = request.study.teachers == "one"
    taught = [of for of in results.files if of.row == teacher.title and (shared or of.seed == name.seed)]
    if not taught:
        return run
    agreement = (run.predicted == read_run(results.files[taught[0]]).predicted).mean()
    return replace(run, teacher_agreement=float(agreement))
