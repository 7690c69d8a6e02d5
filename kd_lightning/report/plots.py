"""What a study's plots draw."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from kd_lightning.compare.results import Row
from kd_lightning.report.analysis import (
    ACCURACY,
    CURVES,
    MEASURES,
    Analysis,
    Measure,
    RowAnalysis,
    class_differences,
    confusion,
    curve,
    shown_classes,
)
from kd_lightning.report.comparison import interval_text, points
from kd_lightning.report.panel import COLOURS, INK, ROLE_COLOURS, SOFT, Panel, hover, label
from kd_lightning.report.statistics import Spread

COSTS = ("parameters", "multiply_adds", "onnx_bytes", "latency_ms")
MAX_HOVER_EPOCHS = 12
"""Epochs of a curve that show their values under the pointer."""

MAX_HOVER_CLASSES = 3
"""The most predictions of a true class that a confusion matrix shows under the pointer."""

MAX_CELL_TEXTS = 12
"""The most classes whose confusion matrix has numbers in its cells."""


def accuracy_plot(analysis: Analysis) -> list[Panel]:
    """Each row's test accuracy: every run, the mean with its 95 % interval, and what others report."""
    rows = [found for found in analysis.rows if found.row.runs]
    return [_list(len(rows), partial(_draw_accuracy, analysis, rows))] if rows else []


def _draw_accuracy(analysis: Analysis, rows: Sequence[RowAnalysis], axes: Axes) -> None:
    reported = False
    for place, found in enumerate(rows):
        colour, accuracy = colour_of(analysis, found.row), found.measures["test_accuracy"]
        runs = [100 * run.test_accuracy for run in found.row.runs]
        axes.scatter(runs, [place + 0.25] * len(runs), s=12, color=colour, alpha=0.5, linewidths=0)
        _mark(axes, [(place, accuracy)], colour)
        text = f"{found.row.name}: {ACCURACY.text(accuracy)}, {len(runs)} runs"
        if accuracy and accuracy.interval:
            text += ", 95 % interval {:.2f} to {:.2f}".format(*(100 * edge for edge in accuracy.interval))
        if found.row.reported is not None:
            reported = True
            axes.plot([100 * found.row.reported], [place], "D", color=colour, markersize=6, fillstyle="none")
            text += f", reported {100 * found.row.reported:.2f}"
        _hover_row(axes, place, text)
    title = "test accuracy (%): runs, mean, 95 % interval" + ("; hollow: reported" if reported else "")
    _name_rows(axes, [found.row.name for found in rows], title)
    axes.set_xlim(max(0, axes.get_xlim()[0]), min(100, axes.get_xlim()[1]))


def differences_plot(analysis: Analysis) -> list[Panel]:
    """Each compared row's paired difference with its 95 % interval and, thin, the bootstrap interval."""
    rows = analysis.compared if any(by.test.runs for _, by in analysis.compared) else ()
    return [_list(len(rows), partial(_draw_differences, analysis))] if rows else []


def _draw_differences(analysis: Analysis, axes: Axes) -> None:
    for place, (row, by) in enumerate(analysis.compared):
        text = f"{row.name}: {by.verdict}"
        if by.test.runs:
            found = Spread(by.test.difference, by.test.std, by.test.interval)
            _mark(axes, [(place, found)], colour_of(analysis, row))
            text += f", {_difference_text(found)}"
        if by.bootstrap:
            ends = [100 * edge for edge in by.bootstrap]
            axes.plot(ends, [place + 0.25] * 2, color=colour_of(analysis, row), linewidth=1, alpha=0.6)
            text += f", bootstrap {interval_text(by.bootstrap)}"
        _hover_row(axes, place, text)
    axes.axvline(0, color=SOFT, linewidth=1)
    names = [f"{row.name}: {by.verdict}" for row, by in analysis.compared]
    _name_rows(axes, names, f"difference to {label(analysis.study.baseline.name)} (points)")


def curves_plot(analysis: Analysis) -> list[Panel]:
    """Training and validation curves: means, with a band of one standard deviation over seeds."""
    known = [measure for measure in CURVES if any(curve(row, measure.name)[0] for row in analysis.study.rows)]
    return [Panel(measure.title, (4.4, 2.8), partial(_draw_curves, analysis, measure)) for measure in known]


def _draw_curves(analysis: Analysis, measure: Measure, axes: Axes) -> None:
    texts: dict[int, list[str]] = {}
    for row in analysis.study.rows:
        epochs, values = curve(row, measure.name)
        mean = measure.scale * np.array([value.mean for value in values])
        std = measure.scale * np.array([value.std or 0.0 for value in values])
        axes.plot(epochs, mean, color=colour_of(analysis, row), marker="o" if len(epochs) == 1 else "")
        axes.fill_between(epochs, mean - std, mean + std, color=colour_of(analysis, row), alpha=0.16, linewidth=0)
        for epoch, value in zip(epochs, values, strict=True):
            texts.setdefault(epoch, []).append(f"{row.name}: {measure.text(value)}")
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if measure.scale == 100:
        _end_at_100(axes)
    axes.margins(x=0.02)
    ends = axes.get_xlim()
    shown = sorted(texts)[:: -max(1, -(-len(texts) // MAX_HOVER_EPOCHS))][::-1]
    edges = [ends[0], *((one + other) / 2 for one, other in pairwise(shown)), ends[1]]
    for epoch, low, high in zip(shown, edges, edges[1:], strict=False):
        hover(axes.axvspan(low, high, fill=False, linewidth=0), "\n".join([f"epoch {epoch}", *texts[epoch]]))
    axes.set_xlim(ends)


def classes_plot(analysis: Analysis) -> list[Panel]:
    """The paired difference of each class's accuracy to the baseline, with uncorrected 95 % intervals."""
    compared = [(row, class_differences(row, analysis.study.baseline)) for row, _ in analysis.compared]
    known = [(row, found) for row, found in compared if found]
    shown = shown_classes(analysis.study)
    draw = partial(_draw_classes, analysis, known, shown)
    return [_list(len(shown), draw, max(0.38, 0.13 * len(known) + 0.1))] if known else []


def _draw_classes(
    analysis: Analysis, known: Sequence[tuple[Row, list[Spread | None]]], shown: Sequence[int], axes: Axes
) -> None:
    names = [analysis.study.class_names[index] for index in shown]
    offsets = [0.0] if len(known) == 1 else np.linspace(-0.3, 0.3, len(known))
    for (row, found), offset in zip(known, offsets, strict=True):
        marks = [(place + offset, found[index]) for place, index in enumerate(shown)]
        _mark(axes, marks, colour_of(analysis, row), 4)
    for place, index in enumerate(shown):
        lines = [f"{row.name}: {_difference_text(value)}" for row, found in known if (value := found[index])]
        _hover_row(axes, place, "\n".join([names[place], *lines]))
    axes.axvline(0, color=SOFT, linewidth=1)
    _name_rows(axes, names, f"difference to {label(analysis.study.baseline.name)} (points)")


def confusion_plot(analysis: Analysis) -> list[Panel]:
    """Each row's confusion matrix over all runs, in per cent of the true class."""
    names = analysis.study.class_names
    found = [(row.name, matrix) for row in analysis.study.rows if (matrix := confusion(row)) is not None]
    return [Panel(name, (4.4, 4.2), partial(_draw_confusion, names, matrix)) for name, matrix in found]


def _draw_confusion(names: Sequence[str], counts: NDArray[np.int_], axes: Axes) -> None:
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    share = counts / totals
    colours = np.broadcast_to([*to_rgb(COLOURS[0]), 1.0], (*share.shape, 4)) * np.ones_like(share)[..., None]
    colours[..., 3] = 0.75 * share  # whatever is below shows through, so that light and dark pages show the same image
    axes.imshow(colours, interpolation="none")
    axes.grid(visible=False)
    ticks = range(len(names) if len(names) <= 30 else 0)
    axes.set_xticks(ticks, [label(names[index]) for index in ticks], rotation=90, fontsize=8)
    axes.set_yticks(ticks, [label(names[index]) for index in ticks], fontsize=8)
    axes.set(xlabel="predicted", ylabel="true")
    for true, predicted in np.argwhere(share >= 0.005).tolist() if len(names) <= MAX_CELL_TEXTS else ():
        style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8, "color": INK}
        axes.text(predicted, true, f"{100 * share[true, predicted]:.0f}", **style).set_in_layout(False)
    for true, line in enumerate(counts):
        most = [index for index in np.argsort(-line, kind="stable")[:MAX_HOVER_CLASSES].tolist() if line[index]]
        taken = [f"{names[index]}: {line[index]}, {100 * share[true, index]:.1f} %" for index in most]
        _hover_row(axes, true, "\n".join([f"{names[true]}, {totals[true, 0]} images, taken for", *taken]))
    axes.set(xlim=(-0.5, len(names) - 0.5), ylim=(len(names) - 0.5, -0.5))


def costs_plot(analysis: Analysis) -> list[Panel]:
    """Accuracy against each cost that was measured: size, multiply-adds, the ONNX file's size, latency."""
    panels = []
    for measure in (measure for measure in MEASURES if measure.name in COSTS):
        known = [(found.row, found.measures[measure.name], found.measures["test_accuracy"]) for found in analysis.rows]
        places = [
            (row, measure.scale * cost.mean, accuracy)
            for row, cost, accuracy in known
            if cost and cost.mean > 0 and accuracy
        ]
        draw = partial(_draw_costs, analysis, measure.title, places)
        panels += [Panel(measure.title, (4.4, 3.0), draw)] if places else []
    return panels


def _draw_costs(analysis: Analysis, title: str, places: Sequence[tuple[Row, float, Spread]], axes: Axes) -> None:
    for row, cost, accuracy in places:
        colour, mean, std = colour_of(analysis, row), 100 * accuracy.mean, 100 * (accuracy.std or 0)
        axes.plot([cost] * 2, [mean - std, mean + std], color=colour, linewidth=2, solid_capstyle="round")
        (dot,) = axes.plot([cost], [mean], "o", color=colour, markersize=7)
        hover(dot, f"{row.name}: test accuracy {ACCURACY.text(accuracy)} %, {title} {cost:.4g}")
    axes.set(xscale="log", xlabel=title, ylabel="test accuracy (%)")
    axes.set_xlim(min(cost for _, cost, _ in places) / 1.5, max(cost for _, cost, _ in places) * 1.5)
    _end_at_100(axes)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())


def colour_of(analysis: Analysis, row: Row) -> str:
    """Return a row's colour: its role's, or the next one for a student."""
    students = [student.name for student, _ in analysis.compared]
    return ROLE_COLOURS.get(row.role) or COLOURS[students.index(row.name) % len(COLOURS)]


def _list(count: int, draw: Callable[[Axes], None], line_height: float = 0.42) -> Panel:
    return Panel("", (5.6, 0.6 + line_height * count), draw)


def _mark(axes: Axes, marks: Iterable[tuple[float, Spread | None]], colour: str, size: float = 7) -> None:
    """Draw means with their intervals at places on the vertical axis."""
    known = [(place, found, found.interval or (found.mean, found.mean)) for place, found in marks if found]
    places = [place for place, _, _ in known]
    low, high = ([100 * interval[end] for _, _, interval in known] for end in (0, 1))
    axes.hlines(places, low, high, colors=colour, linewidth=2, capstyle="round")
    axes.plot([100 * found.mean for _, found, _ in known], places, "o", color=colour, markersize=size)


def _hover_row(axes: Axes, place: int, text: str) -> None:
    hover(axes.axhspan(place - 0.5, place + 0.5, fill=False, linewidth=0), text)


def _name_rows(axes: Axes, names: Iterable[str], title: str) -> None:
    labels = [label(name) for name in names]
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(axis="y", labelcolor=INK)
    axes.grid(visible=False, axis="y")
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xlabel(title)


def _end_at_100(axes: Axes) -> None:
    axes.set_ylim(max(0, axes.get_ylim()[0]), min(100, axes.get_ylim()[1]))


def _difference_text(found: Spread) -> str:
    return points(found.mean) + (f" ({interval_text(found.interval)})" if found.interval else "")
