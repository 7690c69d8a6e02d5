"""Makes the plan of a study at its first start, and reads it at later ones."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import count
from pathlib import Path

from kd_lightning.compare.plan import PlannedRow
from kd_lightning.compare.run_key import code_version, run_key
from kd_lightning.compare.study import StudyConfig
from kd_lightning.compare.study_plan import StudyPlan
from kd_lightning.digest import digest
from kd_lightning.errors import UserError
from kd_lightning.files import atomic_write

FILE = "plan.json"
PROGRAM = ("python", "-m", "kd_lightning")


def row_digests(
    rows: Sequence[PlannedRow], data: Mapping[str, dict[str, str]], teachers: str, threads: int
) -> dict[str, str]:
    """Return a digest of all that each compared row's difference to the baseline depends on, except the seed.

    Args:
        rows: The rows of the study.
        data: The fingerprint of each row's data, by the row's name.
        teachers: Whether all seeds share one teacher.
        threads: CPU threads of a run.
    """
    key_of = {
        row.row.title: run_key(
            row.config, 0, data=data[row.row.title], teacher=None, threads=threads, code=code_version(row.config)
        )
        for row in rows
    }
    shared = [key_of[row.row.title] for row in rows if row.role == "baseline"]
    taught = [teachers, *(key_of[row.row.title] for row in rows if row.role == "teacher")]
    parts = {
        row.row.title: [key_of[row.row.title], *shared, *(taught if row.learns else [])]
        for row in rows
        if row.role == "student"
    }
    return {name: digest(json.dumps(part).encode(), size=16) for name, part in parts.items()}


def ensure_plan(study: StudyConfig, digests: dict[str, str], folder: Path) -> StudyPlan:
    """Read the plan of a study's folder, or make it before the first run is finished; note the requested seeds.

    Raises:
        UserError: The options contradict the plan, or its file is damaged.
    """
    path, begun = folder / FILE, _begun(folder)
    if begun and path.exists():
        plan = _checked(read_plan(path), study, folder)
    else:
        plan = StudyPlan(study.first_seed or 0, study.planned_looks, digests)
        plan = replace(plan, exploratory=_seen_before(plan, folder, begun))
    plan = replace(plan, started=max(plan.started, study.seeds or plan.looks[-1]))
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(asdict(plan), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return plan


def read_plan(path: Path) -> StudyPlan:
    """Read a plan.

    Raises:
        UserError: The file is damaged.
    """
    try:
        return StudyPlan.from_plain(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is not the plan of a study: give the study a new folder by --output.") from error


def next_study(plan: StudyPlan, folder: Path) -> tuple[int, Path]:
    """Return the first seed and the folder of a new study; no study of these rows beside it has used its seeds."""
    used = [other for _, other in _related(plan, folder)]
    free = next(other for number in count(2) if not (other := folder.with_name(f"{folder.name}_{number}")).exists())
    return max(other.first_seed + other.started for other in [plan, *used]), free


def new_study_command(args: Sequence[str], plan: StudyPlan, folder: Path) -> str:
    """Return the command line of a study of the same rows with new seeds, without their number, in a new folder.

    Args:
        args: The command line of this study, from ``compare`` on.
        plan: Its plan.
        folder: Its folder.
    """
    kept, chosen = list[str](), True
    for word in args:
        if word.startswith("-"):
            chosen = word.partition("=")[0] not in ("--seeds", "--first_seed", "--looks", "--output")
        kept += [word] if chosen else []
    first, other = next_study(plan, folder)
    looks = ["--looks", "null"] if len(plan.looks) > 1 else []
    return shlex.join([*PROGRAM, *kept, "--output", str(other), "--first_seed", str(first), *looks])


def _begun(folder: Path) -> bool:
    return any(folder.glob("runs/*.json"))


def _checked(plan: StudyPlan, study: StudyConfig, folder: Path) -> StudyPlan:
    requested = {"--first_seed": (study.first_seed, plan.first_seed), "--looks": (study.looks, list(plan.looks))}
    for option, (wanted, planned) in requested.items():
        if wanted is not None and wanted != planned:
            first, other = next_study(plan, folder)
            raise UserError(
                f"{option} is {wanted}, but the study in {folder} was planned with {planned} before its first run; "
                f"leave {option} out, or start a new study with new seeds by --output {other} --first_seed {first}."
            )
    return plan


def _seen_before(plan: StudyPlan, folder: Path, begun: bool) -> str:
    """Return why a new plan gives no verdict: some of its results are older than the plan; empty where it does."""
    if begun:
        return "its folder held finished runs before there was a plan"
    related = list(_related(plan, folder))
    if any(replace(other, started=plan.started, exploratory="") == plan for _, other in related):
        return ""  # the same study again
    for path, other in related:
        if set(plan.seeds) & set(range(other.first_seed, other.first_seed + other.started)):
            return f"some of its results were there before its plan, in {path}"
    return ""


def _related(plan: StudyPlan, folder: Path) -> Iterator[tuple[Path, StudyPlan]]:
    """Give the studies beside this one that have finished runs, and a row of this one with the same baseline."""
    for path in sorted(folder.parent.glob(f"*/{FILE}")):
        if path.parent.name == folder.name or not _begun(path.parent):
            continue
        try:
            other = read_plan(path)
        except UserError:
            continue
        if set(other.rows.values()) & set(plan.rows.values()):
            yield path.parent, other
