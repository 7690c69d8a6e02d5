"""What a study's plots draw."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import offset_copy
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
from kd_lightning.report.bands import Band, banded, finish, mark, within
from kd_lightning.report.comparison import interval_text, points
from kd_lightning.report.panel import COLOURS, INK, ROLE_COLOURS, SOFT, Panel, hover, label
from kd_lightning.report.statistics import Spread
from kd_lightning.wording import counted

COSTS = ("parameters", "multiply_adds", "onnx_bytes", "latency_ms")
ABOVE, BELOW = 0.04, 0.06
"""Inches from the middle of a band to its mean and interval, and to its runs or its second interval."""

MAX_HOVER_EPOCHS = 12
"""Epochs of a curve that show their values under the pointer."""

MAX_HOVER_CLASSES = 3
"""The most predictions of a true class that a confusion matrix shows under the pointer."""

MAX_CELL_TEXTS = 12
"""The most classes whose confusion matrix has numbers in its cells."""


def accuracy_plot(analysis: Analysis) -> list[Panel]:
    """Each row's test accuracy: every run, the mean with its 95 % interval, and what others report."""
    rows = [found for found in analysis.rows if found.row.runs]
    return [banded([found.row.name for found in rows], partial(_draw_accuracy, analysis, rows))] if rows else []


def _draw_accuracy(analysis: Analysis, rows: Sequence[RowAnalysis], bands: Sequence[Band], axes: Axes) -> None:
    for band, found in zip(bands, rows, strict=True):
        colour = colour_of(analysis, found.row)
        runs = [100 * run.test_accuracy for run in found.row.runs]
        axes.scatter(
            runs, [band.middle + BELOW] * len(runs), s=12, color=colour, alpha=0.5, linewidths=0, clip_on=False
        )
        mark(axes, [(band.middle - ABOVE, found.measures["test_accuracy"])], colour)
        if found.row.reported is not None:
            style: dict[str, Any] = {"color": colour, "markersize": 6, "fillstyle": "none", "clip_on": False}
            axes.plot([100 * found.row.reported], [band.middle - ABOVE], "D", **style)
    axes.set_xlim(within(ACCURACY, *axes.get_xlim()))
    values = [ACCURACY.text(found.measures["test_accuracy"]) for found in rows]
    finish(axes, bands, values, map(_accuracy_hover, rows), "test accuracy (%)")


def _accuracy_hover(found: RowAnalysis) -> str:
    accuracy = found.measures["test_accuracy"]
    text = f"{found.row.name}: {ACCURACY.text(accuracy)}, {counted(len(found.row.runs), 'run')}"
    if accuracy and accuracy.interval:
        text += ", 95 % interval {:.2f} to {:.2f}".format(*within(ACCURACY, *(100 * end for end in accuracy.interval)))
    return text if found.row.reported is None else f"{text}, reported {ACCURACY.show(found.row.reported)}"


def differences_plot(analysis: Analysis) -> list[Panel]:
    """Each compared row's paired difference with its 95 % interval and, thin, the bootstrap interval."""
    rows = analysis.compared if any(by.test.runs for _, by in analysis.compared) else ()
    return [banded([row.name for row, _ in rows], partial(_draw_differences, analysis))] if rows else []


def _draw_differences(analysis: Analysis, bands: Sequence[Band], axes: Axes) -> None:
    hovers, values = [], []
    for band, (row, by) in zip(bands, analysis.compared, strict=True):
        colour, text, value = colour_of(analysis, row), f"{row.name}: {by.verdict}", str(by.verdict)
        if by.test.runs:
            found = Spread(by.test.difference, by.test.std, by.test.interval)
            mark(axes, [(band.middle - ABOVE, found)], colour)
            text += f", {_difference_text(found)}"
            value = f"{points(found.mean)} {value}"
        if by.bootstrap:
            ends = [100 * edge for edge in by.bootstrap]
            axes.plot(ends, [band.middle + BELOW] * 2, color=colour, linewidth=1, alpha=0.6)
            text += f", bootstrap {interval_text(by.bootstrap)}"
        hovers.append(text)
        values.append(value)
    _line_at_0(axes)
    finish(axes, bands, values, hovers, _difference_title(analysis))


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
    axes.set_ylim(within(measure, *axes.get_ylim()))
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
    names = [analysis.study.class_names[index] for index in shown]
    draw = partial(_draw_classes, analysis, known, shown)
    return [banded(names, draw, 0.12 * len(known) + 0.14, width=44)] if known else []


def _draw_classes(
    analysis: Analysis,
    known: Sequence[tuple[Row, list[Spread | None]]],
    shown: Sequence[int],
    bands: Sequence[Band],
    axes: Axes,
) -> None:
    for number, (row, found) in enumerate(known):
        offset = 0.12 * (number - (len(known) - 1) / 2)
        marks = [(band.middle + offset, found[index]) for band, index in zip(bands, shown, strict=True)]
        mark(axes, marks, colour_of(analysis, row), 4)
    hovers = []
    for index in shown:
        lines = [f"{row.name}: {_difference_text(value)}" for row, found in known if (value := found[index])]
        hovers.append("\n".join([analysis.study.class_names[index], *lines]))
    _line_at_0(axes)
    finish(axes, bands, [""] * len(bands), hovers, _difference_title(analysis))


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
    texts, size = [label(names[index], 16, 1) for index in ticks], min(8, 190 / len(names))
    axes.set_xticks(ticks, texts, rotation=90, fontsize=size)
    axes.set_yticks(ticks, texts, fontsize=size)
    axes.set(xlabel="predicted", ylabel="true")
    for true, predicted in np.argwhere(share >= 0.005).tolist() if len(names) <= MAX_CELL_TEXTS else ():
        style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 8, "color": INK}
        axes.text(predicted, true, f"{100 * share[true, predicted]:.0f}", **style).set_in_layout(False)
    for true, line in enumerate(counts):
        most = [index for index in np.argsort(-line, kind="stable")[:MAX_HOVER_CLASSES].tolist() if line[index]]
        taken = [f"{names[index]}: {line[index]}, {100 * share[true, index]:.1f} %" for index in most]
        text = "\n".join([f"{names[true]}, {totals[true, 0]} images, taken for", *taken])
        hover(axes.axhspan(true - 0.5, true + 0.5, fill=False, linewidth=0), text)
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
    for (row, cost, accuracy), aside in zip(places, _aside(places), strict=True):
        colour, mean, std = colour_of(analysis, row), 100 * accuracy.mean, 100 * (accuracy.std or 0)
        moved = offset_copy(axes.transData, axes.get_figure(root=True), aside, 0, "points")
        axes.plot([cost] * 2, [mean - std, mean + std], color=colour, linewidth=2, transform=moved)
        axes.update_datalim([(cost, mean - std), (cost, mean + std)])  # lines that are moved do not
        (dot,) = axes.plot([cost], [mean], "o", color=colour, markersize=7, transform=moved, clip_on=False)
        hover(dot, f"{row.name}: test accuracy {ACCURACY.text(accuracy)} %, {title} {cost:.4g}")
    low, high = min(cost for _, cost, _ in places) / 1.6, max(cost for _, cost, _ in places) * 1.6
    axes.set(xscale="log", xlabel=title, ylabel="test accuracy (%)", xlim=(low, high))
    axes.autoscale_view(scalex=False)
    axes.set_ylim(within(ACCURACY, *axes.get_ylim()))
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 500 * low else (1,)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())


def _aside(places: Sequence[tuple[Row, float, Spread]]) -> list[float]:
    """Return how far each dot moves, in points, so that those that would hide one another stand side by side."""
    means = [accuracy.mean for _, _, accuracy in places]
    dot, moved = (max(means) - min(means)) / 12, []
    for number, (_, cost, here) in enumerate(places):
        reach = [abs(found.mean - here.mean) - (found.std or 0) - (here.std or 0) for _, _, found in places]
        near = [0.9 < other / cost < 1 / 0.9 for _, other, _ in places]
        hidden = [index for index, far in enumerate(reach) if near[index] and far <= dot]
        moved.append(7 * (hidden.index(number) - (len(hidden) - 1) / 2))
    return moved


def colour_of(analysis: Analysis, row: Row) -> str:
    """Return a row's colour: its role's, or the next one for a student."""
    students = [student.name for student, _ in analysis.compared]
    return ROLE_COLOURS.get(row.role) or COLOURS[students.index(row.name) % len(COLOURS)]


def _line_at_0(axes: Axes) -> None:
    axes.axvline(0, color=SOFT, linewidth=1, zorder=1.2)


def _difference_title(analysis: Analysis) -> str:
    return f"difference to {label(analysis.study.baseline.name, 30, 2)} (points)"


def _difference_text(found: Spread) -> str:
    return points(found.mean) + (f" ({interval_text(found.interval)})" if found.interval else "")
