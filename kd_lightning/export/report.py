"""The report of an export: one row a file, and which file to use on this machine."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnxruntime

from kd_lightning.errors import UserError
from kd_lightning.export.onnx import OLDEST_RUNTIME
from kd_lightning.export.speed import LARGE_BATCH, Speed
from kd_lightning.export.verify import Measured, Variant
from kd_lightning.machine.cpu import cores, cpu_name, int8_flags
from kd_lightning.machine.terminal import columns, fitted
from kd_lightning.wording import counted, in_markdown, shown

COLUMNS = (
    "file",
    "size",
    "difference",
    "same labels",
    "accuracy",
    "one image: median, p95",
    f"batch of {LARGE_BATCH}",
    f"speed to fp32: 1, {LARGE_BATCH}",
)
LOADED_BY = f"The files load in onnxruntime {OLDEST_RUNTIME} and later."
GAP = 2  # characters between two cells of the text
CELL = 16 + GAP
TITLE = max(map(len, COLUMNS)) + GAP
FEW = 100  # calibration images
NOISE = 1.05  # closer ratios count as equal


@dataclass(frozen=True)
class Row:
    """The results of one file.

    Attributes:
        variant: ``fp32``, ``dynamic``, ``static`` or ``fp16``.
        path: The file; where it failed, its ``*.rejected.onnx``.
        size: Its size in bytes.
        smaller: How many times smaller than fp32.
        measured: How it compares with torch.
        float_layers: The layers that a static file keeps in float, to hold its accuracy.
        failure: The gate it failed, or ``None``.
        may_saturate: Whether it may be less accurate on CPUs with AVX2 but without VNNI.
        speed: Its speed on this machine, or ``None`` where it was not measured.
        max_drop: The loss of accuracy that its gate allows, in percentage points; ``None`` where it has no such gate.
        calibrated_on: Training images that fixed the ranges of a static file.
    """

    variant: Variant
    path: Path
    size: int
    smaller: float
    measured: Measured
    float_layers: tuple[str, ...] = ()
    failure: str | None = None
    may_saturate: bool = False
    speed: Speed | None = None
    max_drop: float | None = None
    calibrated_on: int | None = None


@dataclass(frozen=True)
class ExportReport:
    """The rows of one export, in the order in which the files are requested."""

    rows: Sequence[Row]

    @property
    def machine(self) -> str:
        """The CPU, its int8 instructions, the threads and the runtime of the measured speeds."""
        flags = ", ".join(int8_flags()) or "no int8 instructions known"
        return f"{cpu_name()} ({flags}), {counted(cores(), 'thread')}, onnxruntime {onnxruntime.__version__}"

    @property
    def recommended(self) -> Row | None:
        """The fastest good file for one image, of equally fast ones the smallest; ``None`` without speeds.

        It is never one that is neither smaller nor faster than fp32.
        """
        rows = self._good()
        fastest = max((speed.ratio for _, speed in rows), default=0.0)
        return next((row for row, speed in rows if speed.ratio * NOISE >= fastest), None)

    def _good(self) -> list[tuple[Row, Speed]]:
        """Return the good files that may be recommended, with their speeds, the smallest first."""
        rows = [(row, row.speed) for row in self.rows if row.failure is None and row.speed is not None]
        rows = [(row, speed) for row, speed in rows if row.variant == "fp32" or _pays(row, speed)]
        return sorted(rows, key=lambda pair: pair[0].size)

    @property
    def recommendation(self) -> str:
        """The recommended file, in a sentence; empty without speeds or a choice."""
        best = self.recommended
        if best is None or best.speed is None or len(self.rows) == 1:
            return ""
        if best.variant != "fp32":
            return f"For this machine: {best.path.name}, {_advantage(best, best.speed)}."
        smallest, speed = self._good()[0]
        small = "" if smallest == best else f"; {smallest.path.name} is {_advantage(smallest, speed)}"
        return f"For this machine: {best.path.name}, because no other file is faster{small}."

    def to_plain(self) -> dict[str, Any]:
        """Return it as values that JSON accepts."""
        rows = [asdict(row) | {"path": str(row.path)} for row in self.rows]
        plain = {"machine": self.machine, "rows": rows, "recommendation": self.recommendation}
        return plain | {"oldest_onnxruntime": OLDEST_RUNTIME}

    def to_markdown(self) -> str:
        """Return table, notes and recommendation for TensorBoard or a README."""
        lines = [COLUMNS, ("---",) * len(COLUMNS), *(map(in_markdown, _cells(row)) for row in self.rows)]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        parts = (table, self.machine, *self.notes(), LOADED_BY, self.recommendation)
        return "\n\n".join(part for part in parts if part) + "\n"

    def to_text(self, width: int | None = None) -> str:
        """Return table, notes and recommendation as plain text.

        Args:
            width: Columns; those of the terminal by default, or 80 where there is none. Files that do not fit side by
                side follow below each other.
        """
        lines = [f"{row.variant:{TITLE}}{row.path.name}" for row in self.rows]
        for rows in _side_by_side(self.rows, columns() if width is None else width):
            lines += ["", " " * TITLE + "".join(f"{row.variant:{CELL}}" for row in rows)]
            cells = zip(COLUMNS[1:], *(_cells(row)[1:] for row in rows), strict=True)
            lines += [f"{title:{TITLE}}" + "".join(f"{cell:{CELL}}" for cell in of) for title, *of in cells if any(of)]
        parts = (self.machine, *self.notes(), LOADED_BY, self.recommendation)
        lines += ["", *(part for part in parts if part)]
        return "\n".join(fitted(shown(line).rstrip(), width) for line in lines) + "\n"

    def notes(self) -> list[str]:
        """Return further findings on the files, a sentence each."""
        return [f"{row.path.name} {note}." for row in self.rows for note in _notes(row)]


class GateError(UserError):
    """An exported file is not good enough.

    Attributes:
        report: The report of all files of the export.
    """

    def __init__(self, report: ExportReport) -> None:
        failures = [f"{row.path.name} fails its gate: {row.failure}." for row in report.rows if row.failure]
        super().__init__(" ".join(failures))
        self.report = report


def _pays(row: Row, speed: Speed) -> bool:
    return max(row.smaller, speed.ratio, speed.batch_ratio) >= NOISE


def _advantage(row: Row, speed: Speed) -> str:
    """Return what a file has over fp32, and what it costs."""
    change = "" if row.measured.change is None else f", {row.measured.change:+.2f} points of accuracy"
    return (
        f"{speed.ratio:.2f} times fp32's speed for one image ({speed.batch_ratio:.2f} in batches of {LARGE_BATCH}), "
        f"{row.smaller:.1f} times smaller{change}"
    )


def _side_by_side(rows: Sequence[Row], width: int) -> Iterator[Sequence[Row]]:
    """Yield the rows whose cells fit beside each other."""
    count = max(1, (width - TITLE + GAP) // CELL)
    for start in range(0, len(rows), count):
        yield rows[start : start + count]


def _cells(row: Row) -> tuple[str, ...]:
    """Return the text of a row's cells, one for each of ``COLUMNS``."""
    measured, speed = row.measured, row.speed
    accuracy = "" if measured.accuracy is None else f"{100 * measured.accuracy:.2f} %"
    change = "" if measured.change is None else f" ({measured.change:+.2f})"
    return (
        row.path.name,
        f"{row.size / 1e6:.2f} MB (1/{row.smaller:.1f})",
        f"{measured.difference:.1e}",
        f"{100 * measured.agreement:.2f} %",
        accuracy + change,
        "" if speed is None else f"{speed.median_ms:.2f} ms, {speed.p95_ms:.2f} ms",
        "" if speed is None else f"{speed.images_per_second:.0f} images/s",
        "" if speed is None else f"{speed.ratio:.2f}x, {speed.batch_ratio:.2f}x",
    )


def _notes(row: Row) -> list[str]:
    notes = []
    if row.failure:
        notes.append(f"fails its gate: {row.failure}")
    if row.float_layers:
        notes.append(f"keeps {', '.join(row.float_layers)} in float, for its accuracy")
    if row.may_saturate:
        notes.append("may lose accuracy on CPUs with AVX2 but without VNNI; reduce_range prevents it")
    if row.max_drop is not None and row.measured.interval is not None and -row.measured.interval[0] > row.max_drop:
        notes.append(
            f"may lose up to {-row.measured.interval[0]:.2f} points on other images like these (95 % confidence): they "
            f"are too few to see a drop of {row.max_drop:.2f}"
        )
    if row.calibrated_on is not None and row.calibrated_on < FEW:
        notes.append(f"was calibrated on {counted(row.calibrated_on, 'training image')}, and {FEW} or more are usual")
    return notes
