"""What a study shows: the statistics of its rows and of its curves and classes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd_lightning.compare.results import Row, Run, Study, finite
from kd_lightning.report.statistics import (
    MOST_RUNS,
    Interval,
    PairedTest,
    Spread,
    Verdict,
    bootstrap_interval,
    judge,
    runs_to_tell,
    spread,
)
from kd_lightning.wording import counted

MEASURES = (
    "test_accuracy",
    "test_loss",
    "calibration_error",
    "teacher_agreement",
    "parameters",
    "multiply_adds",
    "training_seconds",
    "onnx_bytes",
    "latency_ms",
)
CURVES = ("train_accuracy", "val_accuracy", "train_loss", "val_loss")
MOST_CLASSES = 30  # the most classes that a picture shows


@dataclass(frozen=True)
class Comparison:
    """A row held against the baseline on test accuracy, in [0, 1], over the seeds that both finished.

    Attributes:
        test: Paired t-test of the differences.
        adjusted_p: Its p-value after Holm's correction for the study's rows.
        bootstrap: Interval with seeds and test images drawn anew.
        verdict: What may be said.
        more_runs: Runs on top of those done that would tell a difference of this size; ``None`` where told or unknown.
    """

    test: PairedTest
    adjusted_p: float | None
    bootstrap: Interval | None
    verdict: Verdict
    more_runs: int | None

    def sentence(self) -> str:
        """Return the verdict with its reason, such as ``helps: +0.71 points (+0.40 to +1.02)``."""
        size = f"{points(self.test.difference)} points"
        if self.test.interval:
            size += f" ({points(self.test.interval.low)} to {points(self.test.interval.high)})"
        return f"{self.verdict}: {'; '.join(part for part in (size if self.test.runs else '', self.advice()) if part)}"

    def advice(self) -> str:
        """Return what to think of the verdict or what it would take to reach one; empty where nothing is to be said."""
        if self.verdict is not Verdict.CANNOT_TELL:
            shaky = self.bootstrap is not None and self.bootstrap.low <= 0 <= self.bootstrap.high
            return "on other test images it could be none" if shaky else ""
        if self.test.runs < 2:
            return "one run shows no spread" if self.test.runs else "no run to compare"
        if self.test.std == 0:
            same = "exactly 0" if self.test.difference == 0 else "exactly the same"
            return f"the difference is {same} in every run"
        if self.more_runs is None:
            return f"even {MOST_RUNS} runs might not tell a difference this small"
        return f"about {counted(self.more_runs, 'more run')} would tell a difference this large"


@dataclass(frozen=True)
class RowAnalysis:
    """A row with its measures over runs; ``comparison`` is ``None`` for the baseline and the teacher."""

    row: Row
    measures: dict[str, Spread | None]
    comparison: Comparison | None

    def to_plain(self) -> dict[str, Any]:
        """Return values that JSON accepts."""
        plain: dict[str, Any] = {"name": self.row.name, "measures": {}, "comparison": None}
        for name, found in self.measures.items():
            plain["measures"][name] = _plain(asdict(found)) if found else None
        if self.comparison:
            plain["comparison"] = _plain(asdict(self.comparison)) | {"sentence": self.comparison.sentence()}
        return plain


@dataclass(frozen=True)
class Analysis:
    """A study and what it shows, row by row in the study's order."""

    study: Study
    rows: tuple[RowAnalysis, ...]

    @property
    def compared(self) -> tuple[tuple[Row, Comparison], ...]:
        """The rows that were held against the baseline."""
        return tuple((found.row, found.comparison) for found in self.rows if found.comparison)


def points(fraction: float) -> str:
    """Return a difference of fractions in signed percentage points."""
    text = f"{100 * fraction:+.2f}".replace("-", "\N{MINUS SIGN}")
    return text if float(text[1:]) else text[1:]


def analyse(study: Study) -> Analysis:
    """Compute all statistics of a study."""
    students = [row for row in study.rows if row.role == "student"]
    compared = {row.name: found for row, found in zip(students, _compare(students, study.baseline), strict=True)}
    rows = tuple(RowAnalysis(row, _measures(row), compared.get(row.name)) for row in study.rows)
    return Analysis(study, rows)


def paired_runs(row: Row, baseline: Row) -> list[tuple[Run, Run]]:
    """Return (run, baseline's run) for every seed that both finished."""
    of_baseline = {run.seed: run for run in baseline.runs}
    return [(run, of_baseline[run.seed]) for run in row.runs if run.seed in of_baseline]


def curve(row: Row, name: str) -> tuple[list[int], list[Spread]]:
    """Return a curve over the epochs that all runs of a row have: epoch numbers, and the values over seeds."""
    runs = [dict(zip(run.curves.epochs, getattr(run.curves, name), strict=False)) for run in row.runs]
    epochs = sorted(set.intersection(*(set(run) for run in runs))) if runs else []
    found = [spread([run[epoch] for run in runs]) for epoch in epochs]
    return epochs, [value for value in found if value]


def class_differences(row: Row, baseline: Row) -> list[Spread | None]:
    """Return, class by class, the paired difference of accuracy to the baseline; its interval is not corrected."""
    pairs = [(run.class_accuracy, other.class_accuracy) for run, other in paired_runs(row, baseline)]
    differences = np.array([np.subtract(ours, theirs) for ours, theirs in pairs])
    return [spread_of_class(of_class) for of_class in differences.T]


def spread_of_class(values: Sequence[float] | NDArray[np.float64]) -> Spread | None:
    """Summarize a class's accuracy, one value a run; ``None`` also for a class without test images, which has none."""
    return None if np.isnan(values).any() else spread(values)


def shown_classes(study: Study) -> list[int]:
    """Return the classes that pictures show: all, or the ``MOST_CLASSES`` whose accuracy differs most."""
    if len(study.class_names) <= MOST_CLASSES:
        return list(range(len(study.class_names)))
    found = [class_differences(row, study.baseline) for row in study.rows if row.role == "student"]
    size = np.sum([[abs(value.mean) if value else 0.0 for value in of_row] for of_row in found if of_row], axis=0)
    return sorted(np.argsort(size, kind="stable")[-MOST_CLASSES:].tolist())


def confusion(row: Row) -> NDArray[np.int_] | None:
    """Return test images by (true class, predicted class), summed over the runs; ``None`` without runs."""
    return np.sum([run.confusion for run in row.runs], axis=0) if row.runs else None


def _compare(students: Sequence[Row], baseline: Row) -> list[Comparison]:
    pairs = [paired_runs(row, baseline) for row in students]
    judged = judge([_accuracy_differences(of_row) for of_row in pairs])
    return [
        Comparison(test, adjusted, _bootstrap(of_row), verdict, _more_runs(test, verdict, len(students)))
        for of_row, (test, adjusted, verdict) in zip(pairs, judged, strict=True)
    ]


def _accuracy_differences(pairs: list[tuple[Run, Run]]) -> NDArray[np.float64]:
    """Subtract counts, not fractions: equal counts then differ by exactly 0."""
    return np.array([(int(run.correct.sum()) - int(other.correct.sum())) / len(run.correct) for run, other in pairs])


def _bootstrap(pairs: list[tuple[Run, Run]]) -> Interval | None:
    if len(pairs) < 2:
        return None
    return bootstrap_interval(np.array([run.correct.astype(np.int8) - other.correct for run, other in pairs]))


def _more_runs(test: PairedTest, verdict: Verdict, rows: int) -> int | None:
    if verdict is not Verdict.CANNOT_TELL or not test.std:
        return None
    needed = runs_to_tell(test, rows)
    return needed - test.runs if needed else None


def _measures(row: Row) -> dict[str, Spread | None]:
    known = {name: [getattr(run, name) for run in row.runs if getattr(run, name) is not None] for name in MEASURES}
    return {name: spread(values) for name, values in known.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return finite(value) if isinstance(value, float) else value
