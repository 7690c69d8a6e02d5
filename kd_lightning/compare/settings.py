"""How a study was run, as plain data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

from kd_lightning.compare.study_plan import StudyPlan

TeacherPolicy = Literal["one for all seeds", "one per seed"]


@dataclass(frozen=True)
class Settings:
    """How a study was run, to judge it and to run it again.

    Attributes:
        data: The data in words, such as ``CIFAR-10 (JPEG copy)``.
        protocol: Which images train and validate, and when the test split is evaluated, in one sentence.
        teacher: Whether all seeds share one teacher or each has its own.
        epochs: Epochs that the baseline was trained for, in the longest of its runs.
        seeds: The requested seeds, finished or not.
        plan: The plan, fixed before the first run.
        machine: Processor and accelerator.
        versions: Package name to version.
        command: The command line that runs the study again.
        new_study: The command line of a study of the same rows with new seeds, without their number.
        date: Day of the last run, as ``2026-01-31``.
        seconds: Total time of the study, where known.
    """

    data: str
    protocol: str
    teacher: TeacherPolicy
    epochs: int
    seeds: tuple[int, ...]
    plan: StudyPlan
    machine: str
    versions: dict[str, str]
    command: str
    new_study: str = ""
    date: str = ""
    seconds: float | None = None

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Self:
        """Build it from what ``asdict`` gave."""
        plan = StudyPlan.from_plain(values["plan"])
        return cls(**{**values, "seeds": tuple(values["seeds"]), "plan": plan})
