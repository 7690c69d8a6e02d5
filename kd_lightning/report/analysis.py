"""The statistics of a study's rows, curves and classes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kd_lightning.compare.results import Row, Study
from kd_lightning.report.comparison import Comparison, compare_rows, paired_runs
from kd_lightning.report.statistics import Spread, Verdict, spread

MAX_CLASSES = 30  # the most classes that a picture shows
NOTHING = "\N{EN DASH}"


@dataclass(frozen=True)
class Measure:
    """How a measure is shown: ``scale`` turns the stored value into the unit that the title names."""

    name: str
    title: str
    scale: float
    digits: int

    def show(self, value: float | None) -> str:
        """Return the value in the measure's unit."""
        return NOTHING if value is None else f"{self.scale * value:,.{self.digits}f}"

    def text(self, found: Spread | None) -> str:
        """Return mean ± standard deviation; a measure that is the same in every run shows no ±."""
        if found is None:
            return NOTHING
        return self.show(found.mean) + (f" ± {self.show(found.std)}" if found.std else "")


ACCURACY = Measure("test_accuracy", "Test accuracy (%)", 100, 2)
MEASURES = (
    ACCURACY,
    Measure("test_loss", "Test loss", 1, 3),
    Measure("calibration_error", "Calibration error (%)", 100, 2),
    Measure("teacher_agreement", "Agrees with teacher (%)", 100, 2),
    Measure("parameters", "Parameters (k)", 1e-3, 1),
    Measure("multiply_adds", "Multiply-adds (M)", 1e-6, 2),
    Measure("training_seconds", "Training (s)", 1, 1),
    Measure("onnx_bytes", "ONNX (kB)", 1e-3, 0),
    Measure("latency_ms", "Latency (ms)", 1, 3),
)
CURVES = (
    Measure("train_accuracy", "Training accuracy (%)", 100, 2),
    Measure("val_accuracy", "Validation accuracy (%)", 100, 2),
    Measure("train_loss", "Training loss", 1, 3),
    Measure("val_loss", "Validation loss", 1, 3),
)


@dataclass(frozen=True)
class RowAnalysis:
    """A row with its measures over runs; ``comparison`` is ``None`` for the baseline and the teacher."""

    row: Row
    measures: dict[str, Spread | None]
    comparison: Comparison | None


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
    return [class_spread(of_class) for of_class in differences.T]


def class_spread(values: Sequence[float] | NDArray[np.float64]) -> Spread | None:
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
    values = {name: [getattr(run, name) for run in row.runs] for name in (measure.name for measure in MEASURES)}
    return {name: spread([value for value in found if value is not None]) for name, found in values.items()}
