"""What the page's charts draw, as plain values."""

from collections.abc import Sequence
from typing import Any

from kd_lightning.compare.results import Row, finite
from kd_lightning.report.analysis import (
    CURVES,
    Analysis,
    RowAnalysis,
    class_differences,
    confusion,
    curve,
    shown_classes,
)
from kd_lightning.report.comparison import Comparison
from kd_lightning.report.statistics import Spread
from kd_lightning.report.tables import OTHERS

COSTS = ("parameters", "multiply_adds", "onnx_bytes", "latency_ms")
CURVE_TITLES = {
    "train_accuracy": "Training accuracy (%)",
    "val_accuracy": "Validation accuracy (%)",
    "train_loss": "Training loss",
    "val_loss": "Validation loss",
}


def chart_data(analysis: Analysis) -> dict[str, Any]:
    """Return what the page's charts draw: plain values, fractions in per cent, rows by their number in the study."""
    study = analysis.study
    compared = {row.name: class_differences(row, study.baseline) for row, _ in analysis.compared}
    shown, numbers = shown_classes(study), {row.name: number for number, row in enumerate(study.rows)}
    of_classes = [
        {"row": numbers[name], "values": [_percent(found[index]) for index in shown]}
        for name, found in compared.items()
        if found
    ]
    return {
        "rows": [_row(analysis, found) for found in analysis.rows],
        "compared": [_compared(row, by) for row, by in analysis.compared],
        "curves": [found for name in CURVES if (found := _curve(study.rows, name))["rows"]],
        "classNames": study.class_names,
        "classes": {"names": [study.class_names[index] for index in shown], "rows": of_classes},
        "confusion": [
            {"row": numbers[row.name], "counts": counts.tolist()}
            for row in study.rows
            if (counts := confusion(row)) is not None
        ],
        "costs": _cost_data(analysis),
    }


def _row(analysis: Analysis, found: RowAnalysis) -> dict[str, Any]:
    row, students = found.row, [row.name for row, _ in analysis.compared]
    colour = f"var(--s{students.index(row.name) % 8})" if row.role == "student" else f"var(--{row.role})"
    return {
        "name": row.name,
        "colour": colour,
        "accuracy": _percent(found.measures["test_accuracy"]),
        "runs": [100 * run.test_accuracy for run in row.runs],
        "reported": None if row.reported is None else 100 * row.reported,
    }


def _compared(row: Row, by: Comparison) -> dict[str, Any]:
    found = Spread(by.test.difference, by.test.std, by.test.interval) if by.test.runs else None
    bootstrap = [100 * value for value in by.bootstrap] if by.bootstrap else None
    empty = {"mean": None, "std": None, "low": None, "high": None}
    return {"name": row.name, **(_percent(found) or empty), "bootstrap": bootstrap}


def _curve(rows: Sequence[Row], name: str) -> dict[str, Any]:
    scale, drawn = 100 if name.endswith("accuracy") else 1, []
    for number, row in enumerate(rows):
        epochs, values = curve(row, name)
        mean = [finite(scale * value.mean) for value in values]
        std = [finite(scale * (value.std or 0.0)) for value in values]
        drawn += [{"row": number, "epochs": epochs, "mean": mean, "std": std}] if epochs else []
    return {"title": CURVE_TITLES[name], "percent": scale == 100, "rows": drawn}


def _cost_data(analysis: Analysis) -> list[dict[str, Any]]:
    costs = []
    for measure in (measure for measure in OTHERS if measure.name in COSTS):
        found = [(number, row.measures[measure.name]) for number, row in enumerate(analysis.rows)]
        places = [
            {"row": number, "cost": measure.scale * cost.mean} for number, cost in found if cost and cost.mean > 0
        ]
        costs += [{"title": measure.title, "places": places}] if places else []
    return costs


def _percent(found: Spread | None) -> dict[str, float | None] | None:
    """Return a spread of fractions in per cent; ``None`` where there is none or it is not finite."""
    if found is None or finite(found.mean) is None:
        return None
    low, high = found.interval or (None, None)
    values = {"mean": found.mean, "std": found.std, "low": low, "high": high}
    return {name: None if value is None else 100 * value for name, value in values.items()}
