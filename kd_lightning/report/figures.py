"""A study's plots as PNG files, and which rows they show."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from kd_lightning.compare.results import finite
from kd_lightning.files import atomic_write
from kd_lightning.report.analysis import Analysis
from kd_lightning.report.panel import COLOURS, ROLE_COLOURS, STYLE, Panel, label, save
from kd_lightning.report.plots import (
    accuracy_plot,
    classes_plot,
    colour_of,
    confusion_plot,
    costs_plot,
    curves_plot,
    differences_plot,
)

LISTS = ("accuracy", "differences")
"""Plots with a line for each row; the others become unreadable, and slow to draw, where rows are many."""

LEGENDS = {
    "curves": ("teacher", "baseline", "student"),
    "classes": ("student",),
    "costs": ("teacher", "baseline", "student"),
}
"""The roles of the rows that a legend names, where a plot does not name them itself."""

MAX_ROWS = len(ROLE_COLOURS) + len(COLOURS)
"""Rows that the others show, each in a colour of its own."""

PLOTS: dict[str, Callable[[Analysis], list[Panel]]] = {
    "accuracy": accuracy_plot,
    "differences": differences_plot,
    "curves": curves_plot,
    "classes": classes_plot,
    "confusion": confusion_plot,
    "costs": costs_plot,
}


def fewer_rows(analysis: Analysis) -> Analysis:
    """Leave out all compared rows but those that differ most from the baseline, ``MAX_ROWS`` rows in all."""
    students = sorted(analysis.compared, key=lambda found: -abs(finite(found[1].test.difference) or 0.0))
    others = len(analysis.rows) - len(students)
    left_out = {row.name for row, _ in students[max(0, MAX_ROWS - others) :]}
    rows = tuple(found for found in analysis.rows if found.row.name not in left_out)
    return replace(analysis, study=replace(analysis.study, rows=tuple(found.row for found in rows)), rows=rows)


def few_note(analysis: Analysis) -> str:
    """Say which rows the plots show that are not ``LISTS``; nothing where they show all."""
    few, rows = len(fewer_rows(analysis).rows), len(analysis.rows)
    return f"{few} of {rows} rows: those that differ most from {analysis.study.baseline.name}." if few < rows else ""


def legend(analysis: Analysis, name: str) -> list[tuple[str, str]]:
    """Return the name and the colour of each row in a plot's legend."""
    few = fewer_rows(analysis)
    return [(row.name, colour_of(few, row)) for row in few.study.rows if row.role in LEGENDS.get(name, ())]


def plot(analysis: Analysis, name: str) -> list[Panel]:
    """Return the panels of a plot; none where the study has no data for it."""
    return PLOTS[name](analysis if name in LISTS else fewer_rows(analysis))


def write_figures(analysis: Analysis, folder: Path) -> list[Path]:
    """Write each plot that the study has data for as PNG; return their paths."""
    paths = []
    for name in PLOTS:
        panels = plot(analysis, name)
        if panels:
            paths.append(folder / f"{name}.png")
            with rc_context(STYLE), atomic_write(paths[-1]) as temporary:
                save(_grid(analysis, name, panels), temporary, "png")
    return paths


def _grid(analysis: Analysis, name: str, panels: Sequence[Panel]) -> Figure:
    columns = min(2, len(panels))
    lines = -(-len(panels) // columns)
    width, height = panels[0].size
    figure = Figure(figsize=(columns * width, lines * height + 0.5), layout="constrained")
    for place, panel in enumerate(panels):
        axes = figure.add_subplot(lines, columns, place + 1)
        panel.draw(axes)
        axes.set_title(label(panel.title), loc="left")
    if name not in LISTS:
        figure.suptitle(few_note(analysis), fontsize="small")
    if name in LEGENDS:
        keys = [
            Line2D([], [], marker="o", linestyle="", color=colour, label=label(row))
            for row, colour in legend(analysis, name)
        ]
        figure.legend(handles=keys, loc="outside lower center", ncols=2 * columns, frameon=False, fontsize="small")
    return figure
