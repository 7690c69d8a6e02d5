"""The report of an export: one row a file, and which file to use on this machine."""

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnxruntime
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kd_lightning.errors import UserError
from kd_lightning.export.onnx import OLDEST_RUNTIME
from kd_lightning.export.speed import LARGE_BATCH, Speed
from kd_lightning.export.verify import Measured, Variant
from kd_lightning.machine.cpu import cores, cpu_name, int8_flags
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
        return f"{cpu_name()} ({flags}), {cores()} threads, onnxruntime {onnxruntime.__version__}"

    @property
    def recommendation(self) -> str:
        """The fastest good file for one image, of equally fast ones the smallest; empty without speeds or a choice.

        It is never one that is neither smaller nor faster than fp32.
        """
        rows = [(row, row.speed) for row in self.rows if row.failure is None and row.speed is not None]
        rows = [(row, speed) for row, speed in rows if row.variant == "fp32" or _pays(row, speed)]
        fastest = max((speed.ratio for _, speed in rows), default=0.0)
        ordered = sorted(rows, key=lambda pair: pair[0].size)
        best = next(((row, speed) for row, speed in ordered if speed.ratio * NOISE >= fastest), None)
        if best is None or (best[0].variant == "fp32" and len(self.rows) == 1):
            return ""
        if best[0].variant == "fp32":
            small = "" if ordered[0] == best else f"; {ordered[0][0].path.name} is {_advantage(*ordered[0])}"
            return f"For this machine: {best[0].path.name}, because no other file is faster{small}."
        return f"For this machine: {best[0].path.name}, {_advantage(*best)}."

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

    def to_text(self, width: int = 150) -> str:
        """Return table, notes and recommendation for a terminal, as plain text."""
        table = Table(caption=self.machine, caption_justify="left")
        for name in COLUMNS:
            table.add_column(name, no_wrap=name == "file")
        for row in self.rows:
            table.add_row(*(escape(shown(cell)) for cell in _cells(row)))
        text = io.StringIO()
        console = Console(file=text, width=width, color_system=None)
        console.print(table)
        for line in (*self.notes(), LOADED_BY, self.recommendation):
            console.print(shown(line), markup=False, highlight=False)
        return text.getvalue().rstrip() + "\n"

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
