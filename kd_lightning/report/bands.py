"""Plots with a band for each row: its name and its value above its marks, so that no name collides or is cut."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import pairwise
from typing import NamedTuple

from matplotlib.axes import Axes

from kd_lightning.report.analysis import Measure
from kd_lightning.report.panel import CARD, INK, SOFT, Panel, hover, label
from kd_lightning.report.statistics import Spread

WIDTH, LINE, MARKS, FOOT = 4.2, 0.17, 0.34, 0.55
"""Inches: a panel, a line of a name, the marks of a row, the axis below all rows."""


class Band(NamedTuple):
    """Where a row is drawn, in inches below the top of the axes: its name from ``top``, its marks to ``bottom``."""

    name: str
    top: float
    middle: float
    bottom: float


def banded(
    names: Sequence[str], draw: Callable[[Sequence[Band], Axes], None], marks: float = MARKS, width: int = 26
) -> Panel:
    """Return a panel with a band for each name.

    Args:
        names: The names, which are broken into lines.
        draw: Draws the marks of all bands.
        marks: Height of a band's marks, in inches.
        width: The most characters in a line of a name.
    """
    tops, labels = [0.0], [label(name, width) for name in names]
    for text in labels:
        tops.append(tops[-1] + LINE * len(text.split("\n")) + marks)
    bands = [
        Band(text, top, bottom - marks / 2, bottom) for text, (top, bottom) in zip(labels, pairwise(tops), strict=True)
    ]
    return Panel("", (WIDTH, tops[-1] + FOOT), partial(draw, bands))


def finish(axes: Axes, bands: Sequence[Band], values: Iterable[str], hovers: Iterable[str], title: str) -> None:
    """Write names and values, and name the axis, after all marks are drawn."""
    for band, value, text in zip(bands, values, hovers, strict=True):
        edge = band.top + LINE * len(band.name.split("\n"))
        axes.axhspan(band.top, edge, facecolor=CARD, linewidth=0, zorder=1.5)  # no grid through the name
        place = axes.get_yaxis_transform()
        axes.text(0, band.top, band.name, transform=place, va="top", color=INK, fontsize=10)
        axes.text(1, band.top, value, transform=place, va="top", ha="right", color=SOFT, fontsize=9)
        hover(axes.axhspan(band.top, band.bottom, fill=False, linewidth=0), text)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_ylim(bands[-1].bottom, 0)
    axes.set_xlabel(title)


def mark(axes: Axes, marks: Iterable[tuple[float, Spread | None]], colour: str, size: float = 7) -> None:
    """Draw means with their intervals at places on the vertical axis, in per cent."""
    known = [(place, found, found.interval or (found.mean, found.mean)) for place, found in marks if found]
    places = [place for place, _, _ in known]
    low, high = ([100 * interval[end] for _, _, interval in known] for end in (0, 1))
    axes.hlines(places, low, high, colors=colour, linewidth=2, capstyle="round")
    axes.plot([100 * found.mean for _, found, _ in known], places, "o", color=colour, markersize=size, clip_on=False)


def within(measure: Measure, low: float, high: float) -> tuple[float, float]:
    """Return the ends of an axis without what is impossible: a share lies in 0 to 100 %, a loss is not below 0."""
    return max(0, low), min(100, high) if measure.scale == 100 else high
