"""The statistics of a study's rows, curves and classes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kd_lightning.compare.results import Row, Study, finite
from kd_lightning.report.comparison import Comparison, compare_rows, paired_runs
from kd_lightning.report.statistics import Spread, Verdict, spread

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
MAX_CLASSES = 30  # the most classes that a picture shows


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
    """A study and its statistics, row by row in the study's order."""

    study: Study
    rows: tuple[RowAnalysis, ...]

    @property
    def compared(self) -> tuple[tuple[Row, Comparison], ...]:
        """The rows that are compared with the baseline."""
        return tuple((found.row, found.comparison) for found in self.rows if found.comparison)

    @property
    def goes_on(self) -> bool:
        """Whether a row would get its verdict from more of the planned seeds."""
        waiting = [row for row, by in self.compared if by.verdict is Verdict.NONE and not row.exploratory]
        return any(not row.failures for row in waiting) and not self.study.baseline.failures


def analyse(study: Study) -> Analysis:
    """Compute all statistics of a study."""
    students = [row for row in study.rows if row.role == "student"]
    compared = {row.name: found for row, found in zip(students, compare_rows(study), strict=True)}
    rows = tuple(RowAnalysis(row, _measures(row), compared.get(row.name)) for row in study.rows)
    return Analysis(study, rows)


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
    """Return the classes that pictures show: all, or the ``MAX_CLASSES`` whose accuracy differs most."""
    if len(study.class_names) <= MAX_CLASSES:
        return list(range(len(study.class_names)))
    found = [class_differences(row, study.baseline) for row in study.rows if row.role == "student"]
    size = np.sum([[abs(value.mean) if value else 0.0 for value in of_row] for of_row in found if of_row], axis=0)
    return sorted(np.argsort(size, kind="stable")[-MAX_CLASSES:].tolist())


def confusion(row: Row) -> NDArray[np.int_] | None:
    """Return test images by (true class, predicted class), summed over the runs; ``None`` without runs."""
    return np.sum([run.confusion for run in row.runs], axis=0) if row.runs else None


def _measures(row: Row) -> dict[str, Spread | None]:
    known = {name: [getattr(run, name) for run in row.runs if getattr(run, name) is not None] for name in MEASURES}
    return {name: spread(values) for name, values in known.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return finite(value) if isinstance(value, float) else value
