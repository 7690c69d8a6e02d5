"""Progress of a study: a line for each run that ends, and the time left."""

import time
from collections import Counter
from statistics import median

from rich.console import Console
from rich.markup import escape

from kd_lightning.machine.terminal import fitted
from kd_lightning.wording import duration


def print_on(console: Console, text: str) -> None:
    """Print a text on a console, in lines that fit it."""
    console.print(fitted(text, console.width), markup=False, highlight=False, soft_wrap=True)


class Progress:
    """Prints a line for each run that ends; a terminal also shows what runs and the time left.

    Args:
        total: Runs of the study.
        jobs: Runs at once; ``None`` where a cluster decides, so that no time left can be told.
        console: Where to print.

    Attributes:
        status: What a terminal shows while it is entered.
        expected: Seconds that a run of a row is expected to take, by the row's name, until one is done.
    """

    def __init__(self, total: int, jobs: int | None, console: Console) -> None:
        self.total = total
        self.jobs = jobs
        self.done = 0
        self.console = console
        self.expected: dict[str, float] = {}
        self._seconds: dict[str, list[float]] = {}  # of the runs done in this process, by row
        self._started: dict[tuple[str, int], float] = {}
        self.status = console.status("")

    def started(self, row: str, seed: int) -> None:
        """Note that a run has been started."""
        self._started[row, seed] = time.monotonic()

    def ended(self, row: str, seed: int, text: str, waiting: Counter[str]) -> None:
        """Print the outcome of a run and the time left.

        Args:
            row: Its row.
            seed: Its seed.
            text: Its outcome.
            waiting: How many runs of each row have not been started.
        """
        self.done += 1
        start = self._started.pop((row, seed), None)
        if start is not None:
            self._seconds.setdefault(row, []).append(time.monotonic() - start)
        place = f"{self.done:>{len(str(self.total))}}/{self.total}"
        left = _appended(self.left(waiting)) if self._started else ""
        print_on(self.console, f"[{place}] {row}, seed {seed}: {text}{left}")

    def show(self, waiting: Counter[str]) -> None:
        """Show what runs and the time left, in a terminal or a notebook."""
        if not (self.console.is_terminal or self.console.is_jupyter):
            return
        running = ", ".join(f"{row} (seed {seed})" for row, seed in self._started) or "none"
        left = _appended(self.left(waiting))
        self.status.update(escape(f"{self.done} of {self.total} runs done; running: {running}{left}"))

    def left(self, waiting: Counter[str]) -> str:
        """Return the time left in words; a row is expected to take as long as its runs so far."""
        if self.jobs is None:
            return ""
        expected = {**self.expected, **{row: median(seconds) for row, seconds in self._seconds.items()}}
        if not expected:
            return "time left unknown until the first run ends"
        typical = sum(expected.values()) / len(expected)
        now = time.monotonic()
        running = sum(max(0.0, expected.get(row, typical) - now + start) for (row, _), start in self._started.items())
        later = sum(count * expected.get(row, typical) for row, count in waiting.items())
        seconds = (running + later) / self.jobs
        return f"about {duration(seconds)} left"


def _appended(text: str) -> str:
    return f"; {text}" if text else ""
