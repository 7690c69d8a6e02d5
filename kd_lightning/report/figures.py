"""A study's plots: what each shows and how to read it, for the page and as PNG files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import wrap

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from kd_lightning.compare.results import finite
from kd_lightning.files import atomic_write
from kd_lightning.report.analysis import MAX_CLASSES, Analysis
from kd_lightning.report.panel import COLOURS, ROLE_COLOURS, SOFT, STYLE, Panel, label, printable, save
from kd_lightning.report.plots import (
    accuracy_plot,
    classes_plot,
    colour_of,
    confusion_plot,
    costs_plot,
    curves_plot,
    differences_plot,
)

MAX_ROWS = len(ROLE_COLOURS) + len(COLOURS)
"""Rows that a plot without their names shows, each in a colour of its own."""


@dataclass(frozen=True)
class Plot:
    """A plot of the page and of the PNG files.

    Attributes:
        title: Its title.
        panels: Returns its panels; none where the study has no data for it.
        note: Returns how to read it.
        legend: The roles of the rows that its legend names, where the plot does not name them itself.
        names_rows: Whether it names all rows; the others show ``MAX_ROWS``, and become slow to draw with more.
    """

    title: str
    panels: Callable[[Analysis], list[Panel]]
    note: Callable[[Analysis], str]
    legend: tuple[str, ...] = ()
    names_rows: bool = False


def fewer_rows(analysis: Analysis) -> Analysis:
    """Leave out all compared rows but those that differ most from the baseline, ``MAX_ROWS`` rows in all."""
    students = sorted(analysis.compared, key=lambda found: -abs(finite(found[1].test.difference) or 0.0))
    others = len(analysis.rows) - len(students)
    left_out = {row.name for row, _ in students[max(0, MAX_ROWS - others) :]}
    rows = tuple(found for found in analysis.rows if found.row.name not in left_out)
    return replace(analysis, study=replace(analysis.study, rows=tuple(found.row for found in rows)), rows=rows)


def _few_note(analysis: Analysis) -> str:
    """Say which rows the plots show that do not name all; nothing where they show all."""
    few, rows = len(fewer_rows(analysis).rows), len(analysis.rows)
    return f" {few} of {rows} rows: those that differ most from {analysis.study.baseline.name}." if few < rows else ""


def _accuracy_note(analysis: Analysis) -> str:
    note = "Small dots are runs, the large dot is their mean with its 95 % interval."
    reported = any(found.row.reported is not None for found in analysis.rows)
    return note + (" A hollow diamond is what others report, with their own settings and data." if reported else "")


def _classes_note(analysis: Analysis) -> str:
    most = "" if len(analysis.study.class_names) <= MAX_CLASSES else "The classes that differ most. "
    note = f"{most}Difference to {analysis.study.baseline.name}; its 95 % intervals are not corrected: no verdicts."
    return note + _few_note(analysis)


PLOTS = {
    "accuracy": Plot("Test accuracy, run by run", accuracy_plot, _accuracy_note, names_rows=True),
    "differences": Plot(
        "Difference to the baseline",
        differences_plot,
        lambda _: "Thick: 95 % interval of the difference. Thin: the same over resampled test images (bootstrap).",
        names_rows=True,
    ),
    "curves": Plot(
        "Training",
        curves_plot,
        lambda analysis: f"Means over seeds; the band is one standard deviation.{_few_note(analysis)}",
        legend=("teacher", "baseline", "student"),
    ),
    "classes": Plot("Class by class", classes_plot, _classes_note, legend=("student",)),
    "confusion": Plot(
        "What is taken for what",
        confusion_plot,
        lambda analysis: (
            "All runs together, in per cent of the true class (rows); columns are predictions." + _few_note(analysis)
        ),
    ),
    "costs": Plot(
        "Accuracy against cost",
        costs_plot,
        lambda analysis: (
            "Mean test accuracy (%); the bar is one standard deviation over runs. Dots that would "
            f"hide one another are side by side.{_few_note(analysis)}"
        ),
        legend=("teacher", "baseline", "student"),
    ),
}


def legend(analysis: Analysis, name: str) -> list[tuple[str, str]]:
    """Return the name and the colour of each row in a plot's legend."""
    few = fewer_rows(analysis)
    return [(row.name, colour_of(few, row)) for row in few.study.rows if row.role in PLOTS[name].legend]


def panels(analysis: Analysis, name: str) -> list[Panel]:
    """Return the panels of a plot; none where the study has no data for it."""
    return PLOTS[name].panels(analysis if PLOTS[name].names_rows else fewer_rows(analysis))


def write_figures(analysis: Analysis, folder: Path) -> list[Path]:
    """Write each plot that the study has data for as PNG; return their paths."""
    paths = []
    for name in PLOTS:
        found = panels(analysis, name)
        if found:
            paths.append(folder / f"{name}.png")
            with rc_context(STYLE), atomic_write(paths[-1]) as temporary:
                save(_grid(analysis, name, found), temporary, "png")
    return paths


def _grid(analysis: Analysis, name: str, found: Sequence[Panel]) -> Figure:
    columns = min(2, len(found))
    width, height = columns * found[0].size[0], -(-len(found) // columns) * found[0].size[1]
    note = wrap(printable(PLOTS[name].note(analysis)), int(13 * width))
    figure = Figure(figsize=(width, height + 0.2 * len(note) + 0.3), layout="constrained")
    for place, panel in enumerate(found):
        axes = figure.add_subplot(-(-len(found) // columns), columns, place + 1)
        panel.draw(axes)
        axes.set_title(label(panel.title, 40, 2), loc="left")
    figure.suptitle("\n".join(note), x=0.02, ha="left", color=SOFT, fontsize="small")
    keys = [
        Line2D([], [], marker="o", linestyle="", color=colour, label=label(row))
        for row, colour in legend(analysis, name)
    ]
    if keys:
        figure.legend(handles=keys, loc="outside lower center", ncols=2 * columns, frameon=False, fontsize="small")
    return figure
