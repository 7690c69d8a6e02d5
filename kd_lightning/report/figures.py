"""A study's figures as PNG files."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from kd_lightning.compare.results import Row, finite
from kd_lightning.files import atomic_write
from kd_lightning.report.analysis import (
    CURVES,
    Analysis,
    class_differences,
    confusion,
    curve,
    shown_classes,
)
from kd_lightning.report.statistics import Spread

ROLE_COLOURS = {"teacher": "#7a5195", "baseline": "#5b6470"}
COLOURS = ("#1f6fb2", "#d9730d", "#2a8f5b", "#c2407a", "#8a6d00", "#0f8b8d", "#a63d2f", "#5c6bc0")


def accuracy_figure(analysis: Analysis) -> Figure | None:
    """Draw each row's test accuracy: every run, the mean with its 95 % interval, and what others report."""
    if not any(found.row.runs for found in analysis.rows):
        return None
    figure = Figure(figsize=(8, 1.4 + 0.6 * len(analysis.rows)), layout="constrained")
    axes = figure.add_subplot()
    for place, found in enumerate(analysis.rows):
        colour, accuracy = colour_of(analysis, found.row), found.measures["test_accuracy"]
        runs = [100 * run.test_accuracy for run in found.row.runs]
        axes.scatter(runs, [place + 0.22] * len(runs), s=18, color=colour, alpha=0.5)
        _mark(axes, accuracy, place, colour)
        if found.row.reported is not None:
            axes.scatter([100 * found.row.reported], [place], marker="D", facecolors="none", edgecolors=colour)
    if any(found.row.reported is not None for found in analysis.rows):
        axes.plot([], [], "D", color="#5b6470", fillstyle="none", label="reported")
        axes.legend(frameon=False)
    _name_rows(axes, [found.row.name for found in analysis.rows], "Test accuracy (%): runs, mean and its 95 % interval")
    return figure


def differences_figure(analysis: Analysis) -> Figure | None:
    """Draw each compared row's paired difference with its 95 % interval and, thin, the bootstrap interval."""
    if not analysis.compared:
        return None
    figure = Figure(figsize=(8, 1.4 + 0.5 * len(analysis.compared)), layout="constrained")
    axes = figure.add_subplot()
    for place, (row, by) in enumerate(analysis.compared):
        if by.bootstrap:
            axes.plot([100 * by.bootstrap.low, 100 * by.bootstrap.high], [place] * 2, color="#9aa3ad", linewidth=1)
        _mark(axes, Spread(by.test.difference, by.test.std, by.test.interval), place, colour_of(analysis, row))
    axes.axvline(0, color="#5b6470", linewidth=1)
    names = [f"{row.name}: {by.verdict}" for row, by in analysis.compared]
    _name_rows(axes, names, f"Difference to {analysis.study.baseline.name} (points)")
    return figure


def curves_figure(analysis: Analysis) -> Figure | None:
    """Draw training and validation curves: means, with a band of one standard deviation over seeds."""
    names = [name for name in CURVES if any(curve(row, name)[0] for row in analysis.study.rows)]
    if not names:
        return None
    figure = Figure(figsize=(10, 3.4 * ((len(names) + 1) // 2)), layout="constrained")
    for place, name in enumerate(names):
        _draw_curves(figure.add_subplot((len(names) + 1) // 2, 2, place + 1), analysis, name)
    return figure


def _draw_curves(axes: Axes, analysis: Analysis, name: str) -> None:
    scale = 100 if name.endswith("accuracy") else 1
    for row in analysis.study.rows:
        epochs, values = curve(row, name)
        mean = scale * np.array([value.mean for value in values])
        std = scale * np.array([value.std or 0.0 for value in values])
        axes.plot(epochs, mean, color=colour_of(analysis, row), label=row.name)
        axes.fill_between(epochs, mean - std, mean + std, color=colour_of(analysis, row), alpha=0.18, linewidth=0)
    axes.set_title(name.replace("_", " ").replace("val", "validation") + (" (%)" if scale == 100 else ""), loc="left")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, fontsize="small")
    _tidy(axes)


def classes_figure(analysis: Analysis) -> Figure | None:
    """Draw the paired difference of each class's accuracy to the baseline, with uncorrected 95 % intervals."""
    if not analysis.compared:
        return None
    shown = shown_classes(analysis.study)
    figure = Figure(figsize=(8, 1.4 + 0.45 * len(shown)), layout="constrained")
    axes = figure.add_subplot()
    for offset, (row, _) in zip(_offsets(len(analysis.compared)), analysis.compared, strict=True):
        found = class_differences(row, analysis.study.baseline)
        for place, index in enumerate(shown if found else []):
            _mark(axes, found[index], place + offset, colour_of(analysis, row))
        axes.plot([], [], "o", color=colour_of(analysis, row), label=row.name)
    axes.axvline(0, color="#5b6470", linewidth=1)
    axes.legend(frameon=False)
    names = [analysis.study.class_names[index] for index in shown]
    _name_rows(axes, names, f"Difference to {analysis.study.baseline.name} by class (points)")
    return figure


def confusion_figure(analysis: Analysis) -> Figure | None:
    """Draw each row's confusion matrix over all runs, in per cent of the true class."""
    matrices = [(row.name, matrix) for row in analysis.study.rows if (matrix := confusion(row)) is not None]
    if not matrices:
        return None
    columns = min(2, len(matrices))
    lines = -(-len(matrices) // columns)
    figure = Figure(figsize=(5 * columns, 4.6 * lines), layout="constrained")
    for place, (name, matrix) in enumerate(matrices):
        axes = figure.add_subplot(lines, columns, place + 1)
        share = 100 * matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        axes.imshow(share, cmap="Blues", vmin=0, vmax=100)
        axes.set_title(f"{name} (% of the true class)", loc="left")
        _name_classes(axes, analysis.study.class_names)
        for (true, predicted), value in np.ndenumerate(share if len(share) <= 12 else np.zeros((0, 0))):
            dark = "white" if value > 55 else "#20262d"
            axes.text(predicted, true, f"{value:.0f}", ha="center", va="center", fontsize=7, color=dark)
    return figure


def size_figure(analysis: Analysis) -> Figure | None:
    """Draw accuracy against the ONNX file's size, or against parameters where a row has no ONNX file."""
    if all(found.measures["onnx_bytes"] for found in analysis.rows if found.row.runs):
        return _against(analysis, "onnx_bytes", 1e-3, "ONNX file (kB)")
    return _against(analysis, "parameters", 1e-3, "Parameters (k)")


def latency_figure(analysis: Analysis) -> Figure | None:
    """Draw accuracy against the time that one image takes."""
    return _against(analysis, "latency_ms", 1, "Latency of one image (ms)")


def _against(analysis: Analysis, name: str, scale: float, title: str) -> Figure | None:
    known = [(found.row, found.measures[name], found.measures["test_accuracy"]) for found in analysis.rows]
    places = [(row, scale * cost.mean, accuracy) for row, cost, accuracy in known if cost and accuracy]
    if not places:
        return None
    figure = Figure(figsize=(6.4, 4.4), layout="constrained")
    axes = figure.add_subplot(xscale="log", xlabel=title, ylabel="Test accuracy (%) ± one standard deviation")
    for row, cost, accuracy in places:
        colour, error = colour_of(analysis, row), 100 * (accuracy.std or 0)
        axes.errorbar([cost], [100 * accuracy.mean], yerr=error, color=colour, fmt="o", capsize=4, label=row.name)
    axes.set_xlim(min(cost for _, cost, _ in places) / 1.5, max(cost for _, cost, _ in places) * 1.5)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.legend(frameon=False)
    _tidy(axes)
    return figure


FIGURES: dict[str, Callable[[Analysis], Figure | None]] = {
    "accuracy": accuracy_figure,
    "differences": differences_figure,
    "curves": curves_figure,
    "classes": classes_figure,
    "confusion": confusion_figure,
    "size": size_figure,
    "latency": latency_figure,
}


LISTS = ("accuracy", "differences")
"""Pictures with a line for each row; the others become unreadable, and slow to draw, where rows are many."""

MAX_ROWS = 12
"""Rows that the others show."""


def fewer_rows(analysis: Analysis) -> Analysis:
    """Leave out all compared rows but those that differ most from the baseline, ``MAX_ROWS`` rows in all."""
    students = sorted(analysis.compared, key=lambda found: -abs(finite(found[1].test.difference) or 0.0))
    others = len(analysis.rows) - len(students)
    left_out = {row.name for row, _ in students[max(0, MAX_ROWS - others) :]}
    rows = tuple(found for found in analysis.rows if found.row.name not in left_out)
    return replace(analysis, study=replace(analysis.study, rows=tuple(found.row for found in rows)), rows=rows)


def write_figures(analysis: Analysis, folder: Path) -> list[Path]:
    """Write each picture that the study has data for as PNG; return their paths."""
    few = fewer_rows(analysis)
    with rc_context({"text.parse_math": False}):  # a dollar in a name is a dollar
        figures = {folder / f"{name}.png": draw(analysis if name in LISTS else few) for name, draw in FIGURES.items()}
    if len(few.rows) < len(analysis.rows):
        note = f"{len(few.rows)} of {len(analysis.rows)} rows: those that differ most from {few.study.baseline.name}"
        for path, figure in figures.items():
            if figure is not None and path.stem not in LISTS:
                figure.suptitle(note, fontsize="small")
    drawn = {path: figure for path, figure in figures.items() if figure is not None}
    for path, figure in drawn.items():
        with atomic_write(path) as temporary:
            figure.savefig(temporary, format="png", dpi=120)
    return list(drawn)


def colour_of(analysis: Analysis, row: Row) -> str:
    """Return a row's colour: its role's, or the next one for a student."""
    students = [student.name for student, _ in analysis.compared]
    return ROLE_COLOURS.get(row.role) or COLOURS[students.index(row.name) % len(COLOURS)]


def _mark(axes: Axes, found: Spread | None, place: float, colour: str) -> None:
    if found is not None:
        low, high = found.interval or (found.mean, found.mean)
        error = [[100 * (found.mean - low)], [100 * (high - found.mean)]]
        axes.errorbar(
            [100 * found.mean], [place], xerr=error, color=colour, fmt="o", capsize=4, markersize=7, linewidth=2
        )


def _name_rows(axes: Axes, names: list[str], title: str) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlabel(title)
    _tidy(axes)


def _name_classes(axes: Axes, names: tuple[str, ...]) -> None:
    shown = names if len(names) <= 30 else ()
    axes.set_xticks(range(len(shown)), shown, rotation=90, fontsize=8)
    axes.set_yticks(range(len(shown)), shown, fontsize=8)
    axes.set(xlabel="predicted", ylabel="true")


def _offsets(count: int) -> list[float]:
    return [0.0] if count == 1 else np.linspace(-0.25, 0.25, count).tolist()


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="both", color="#e3e6ea", linewidth=0.8)
    axes.set_axisbelow(True)
