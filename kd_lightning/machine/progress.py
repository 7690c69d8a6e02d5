"""A progress bar of one row, in a terminal."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from typing import IO, TypeVar

from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from kd_lightning.machine.terminal import is_quiet, is_redrawable
from kd_lightning.wording import duration

Part = TypeVar("Part")

SECONDS = 0.5
"""Seconds between two drawings: each takes one or two milliseconds."""


LONG = 10
"""Seconds from which work is mentioned in a file."""

SETTLED = 2
"""Seconds of work from which the time left is printed: the first parts wait for processes to start."""


class Bar:
    """A bar of one row with a text; where there is no terminal, nothing is drawn.

    Args:
        file: Where to draw; standard output by default.
    """

    def __init__(self, file: IO[str] | None = None) -> None:
        self._file = file
        self._progress: Progress | None = None
        self._next = 0.0

    @property
    def is_due(self) -> bool:
        """Whether the bar's last drawing is old enough to draw it again."""
        return time.monotonic() >= self._next

    def show(self, text: str, done: float, total: float) -> None:
        """Draw how much is done, with a text on its right."""
        self._next = time.monotonic() + SECONDS
        progress = self._progress or _progress(Console(file=self._file))
        progress.update(progress.task_ids[0], description=text, completed=done, total=total)
        if self._progress is None:
            progress.start()  # which draws
            self._progress = progress
        else:
            progress.refresh()

    def hide(self) -> None:
        """Remove the bar; what was printed above it stays."""
        self._next = 0.0
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def can_draw() -> bool:
    """Return whether standard output shows a bar: a terminal does, and a notebook with ipywidgets."""
    return is_redrawable() or (Console().is_jupyter and find_spec("ipywidgets") is not None)


def _progress(console: Console) -> Progress:
    text = TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis"))
    progress = Progress(BarColumn(30), text, console=console, auto_refresh=False, transient=True)
    progress.add_task("")
    return progress


def with_progress(parts: Iterable[Part], what: str, total: int, size: Callable[[Part], int]) -> Iterator[Part]:
    """Yield the parts; where they take more than a second, the first process shows a bar.

    Where there is no terminal, long work prints one line with the time left.

    Args:
        parts: The work, part by part.
        what: The bar's text.
        total: The size of all parts.
        size: Returns the size of a part.
    """
    bar, begin, done, first, printed = Bar(sys.stderr), time.monotonic(), 0, 0, False
    is_shown = not is_quiet() and getattr(rank_zero_only, "rank", 0) == 0
    try:
        for part in parts:
            done += size(part)
            seconds = time.monotonic() - begin
            left = seconds * (total - done) / max(1, done - first)
            text = f"{what}: {done:,} of {total:,}, {duration(left)} left"
            if is_shown and sys.stderr.isatty() and seconds > 1 and bar.is_due:
                bar.show(text, done, total)
            elif is_shown and not sys.stderr.isatty() and seconds > SETTLED and left > LONG and not printed:
                print(text, file=sys.stderr, flush=True)
                printed = True
            if not first:  # its time is no measure: processes started in it
                begin, first = begin + seconds, done
            yield part
    finally:
        bar.hide()
