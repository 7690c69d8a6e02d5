"""The plan of a study: it is fixed before the first run, so that verdicts keep their error rate.

To look at results and then decide how many runs to add, or which rows to keep, raises the rate of false positives
above the test's level. So verdicts are given at the planned numbers of seeds and for the planned rows.
"""

import json
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any, Self

from kd_lightning.compare.choice import Choice
from kd_lightning.compare.study import StudyConfig
from kd_lightning.errors import UserError
from kd_lightning.files import atomic_write
from kd_lightning.machine.terminal import PROGRAM

FILE = "plan.json"
FORMAT = 2
"""The form of a plan's file and of the digests in it; files of another form are refused."""


@dataclass(frozen=True)
class StudyPlan:
    """What a study fixes before its first run.

    Attributes:
        first_seed: Its first seed.
        looks: Numbers of seeds at which verdicts are given, rising; the last is the planned number.
        rows: Each compared row's name, and a digest of all that its difference to the baseline depends on.
        started: Number of seeds requested so far; it may be more than planned.
        exploratory: Why it gives no verdict at all; empty where it does.
        choices: How the setting of each row that has several was chosen, by its name; none before that.
        chosen: Digest of each compared row as chosen, by its name.
    """

    first_seed: int
    looks: tuple[int, ...]
    rows: dict[str, str]
    started: int = 0
    exploratory: str = ""
    choices: dict[str, Choice] = field(default_factory=dict)
    chosen: dict[str, str] = field(default_factory=dict)

    @property
    def used_seeds(self) -> set[int]:
        """All seeds of its runs, those that chose settings included."""
        own = range(self.first_seed, self.first_seed + self.started)
        return {*own, *(seed for choice in self.choices.values() for seed in choice.seeds)}

    @property
    def digests(self) -> set[str]:
        """The digests of its rows, as planned and as chosen."""
        return {*self.rows.values(), *self.chosen.values()}

    @property
    def seeds(self) -> range:
        """The planned seeds."""
        return range(self.first_seed, self.first_seed + self.looks[-1])

    def stages(self, seeds: int | None) -> list[range]:
        """Return the seeds up to each look, one after another; all at once where another number is requested."""
        most = seeds or self.looks[-1]
        numbers = self.looks if most == self.looks[-1] and not self.exploratory else (most,)
        return [range(self.first_seed, self.first_seed + number) for number in numbers]

    def reason(self, row: str, digest: str) -> str:
        """Return why a row has no verdict in this plan; empty where the plan has it."""
        if self.exploratory or self.rows.get(row) == digest:
            return self.exploratory
        if row not in self.rows:
            return "it was not in the study's plan"
        return "it is not what was planned (it, its teacher or the baseline has another config, data, code or machine)"

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Self:
        """Build it from a plan's file, or raise ``TypeError``, ``ValueError`` or ``KeyError``."""
        looks = tuple(int(look) for look in values["looks"])
        rows = {str(name): str(digest) for name, digest in values["rows"].items()}
        if values["format"] != FORMAT or not looks or sorted({0, *looks}) != [0, *looks]:
            raise ValueError
        first_seed, started = (int(values[name]) for name in ("first_seed", "started"))
        choices = {str(name): Choice.from_plain(choice) for name, choice in values.get("choices", {}).items()}
        chosen = {str(name): str(digest) for name, digest in values.get("chosen", {}).items()}
        return cls(first_seed, looks, rows, started, str(values["exploratory"]), choices, chosen)

    def to_plain(self) -> dict[str, Any]:
        """Return values that JSON accepts."""
        return {**asdict(self), "choices": {name: choice.to_plain() for name, choice in self.choices.items()}}


def ensure_plan(study: StudyConfig, digests: dict[str, str], folder: Path, settings: Collection[str] = ()) -> StudyPlan:
    """Read the plan of a study's folder, or make it before the first run is finished; note the requested seeds.

    Args:
        study: The study.
        digests: Each compared row's digest.
        folder: The study's folder.
        settings: The digests that its rows can have when their settings are chosen.

    Raises:
        UserError: The options contradict the plan, or its file is damaged.
    """
    path, begun = folder / FILE, _begun(folder)
    if begun and path.exists():
        plan = _checked(read_plan(path), study, folder)
    else:
        plan = StudyPlan(study.first_seed or 0, study.planned_looks, digests)
        plan = replace(plan, exploratory=_seen_before(plan, folder, begun, settings))
    return _write(replace(plan, started=max(plan.started, study.seeds or plan.looks[-1])), folder)


def add_choices(plan: StudyPlan, choices: Mapping[str, Choice], chosen: Mapping[str, str], folder: Path) -> StudyPlan:
    """Note how settings were chosen, before a run with them; the choices that the plan has stay."""
    added = replace(plan, choices={**choices, **plan.choices}, chosen={**chosen, **plan.chosen})
    return plan if added == plan else _write(added, folder)


def _write(plan: StudyPlan, folder: Path) -> StudyPlan:
    with atomic_write(folder / FILE) as temporary:
        text = json.dumps({"format": FORMAT, **plan.to_plain()}, indent=1, ensure_ascii=False)
        temporary.write_text(text + "\n", encoding="utf-8")
    return plan


def read_plan(path: Path) -> StudyPlan:
    """Read a plan.

    Raises:
        UserError: The file is damaged, or another version of this package wrote it.
    """
    try:
        return StudyPlan.from_plain(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{path} is not the plan of a study that this version reads; give the study a new folder by --output."
        ) from error


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
    return shlex.join([PROGRAM, *kept, "--output", str(other), "--first_seed", str(first), *looks])


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


def _seen_before(plan: StudyPlan, folder: Path, begun: bool, settings: Collection[str]) -> str:
    """Return why a new plan gives no verdict: some of its results are older than the plan; empty where it does."""
    if begun:
        return "its folder held finished runs before there was a plan"
    related = list(_related(plan, folder, settings))
    fresh: dict[str, Any] = {"started": plan.started, "exploratory": "", "choices": {}, "chosen": {}}
    if any(replace(other, **fresh) == plan for _, other in related):
        return ""  # the same study again
    for path, other in related:
        if set(plan.seeds) & other.used_seeds:
            return f"some of its results were there before its plan, in {path}"
    return ""


def _related(plan: StudyPlan, folder: Path, settings: Collection[str] = ()) -> Iterator[tuple[Path, StudyPlan]]:
    """Give the studies beside this one that have finished runs, and a row of this one with the same baseline."""
    for path in sorted(folder.parent.glob(f"*/{FILE}")):
        if path.parent.name == folder.name or not _begun(path.parent):
            continue
        try:
            other = read_plan(path)
        except UserError:
            continue
        if other.digests & {*plan.digests, *settings}:
            yield path.parent, other
