"""A study's results for Python and Jupyter."""

import html
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from kd_lightning.errors import UserError
from kd_lightning.report.analysis import ACCURACY, Analysis, RowAnalysis
from kd_lightning.report.choices import choice_lines
from kd_lightning.report.error_control import cautions
from kd_lightning.report.tables import Table, headline, results_table


@dataclass(frozen=True)
class StudyRow:
    """A row of a study, its test accuracy as a share in [0, 1].

    Attributes:
        name: Its name.
        role: ``teacher``, ``baseline`` or ``student``.
        runs: Number of its finished runs.
        mean: Mean test accuracy over the runs; ``None`` without runs.
        sd: Its standard deviation; ``None`` with fewer than two runs.
        difference: Mean difference to the baseline, paired by seed. This and all below are ``None`` for teacher and
            baseline.
        interval: Confidence interval of the difference, of 95 % where the study has one look; ``None`` where it is
            undefined.
        p: P-value of the difference, corrected for the study's rows and looks; ``None`` without a verdict.
        verdict: ``helps``, ``hurts``, ``inconclusive`` or ``no verdict``.
        setting: The options that were chosen for it on validation images; empty where nothing was.
    """

    name: str
    role: str
    runs: int
    mean: float | None
    sd: float | None
    difference: float | None
    interval: tuple[float, float] | None
    p: float | None
    verdict: str | None
    setting: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, repr=False)
class StudyResult:
    """The results of a study: printed, or shown in Jupyter, it gives its finding and its table.

    Attributes:
        analysis: All measures, statistics and runs.
        page: The report, an HTML page.
    """

    analysis: Analysis
    page: Path

    @property
    def rows(self) -> tuple[StudyRow, ...]:
        """The rows in the study's order: the teacher, the baseline, those that are compared with it."""
        return tuple(map(_row, self.analysis.rows))

    @property
    def headline(self) -> str:
        """The finding in one or two sentences."""
        return headline(self.analysis)

    def table(self) -> Any:
        """Return the rows as a pandas DataFrame, one line a row; the interval is in ``low`` and ``high``.

        Raises:
            UserError: pandas is not installed.
        """
        try:
            pandas = import_module("pandas")
        except ImportError as error:
            raise UserError("table() returns a pandas DataFrame; pip install pandas.") from error
        lines = []
        for row in self.rows:
            values = asdict(row)
            low, high = values.pop("interval") or (None, None)
            lines.append({**values, "low": low, "high": high})
        columns = ["name", "role", "runs", "mean", "sd", "difference", "low", "high", "p", "verdict"]
        return pandas.DataFrame(lines, columns=columns).set_index("name")

    def __repr__(self) -> str:
        study = self.analysis.study
        lines = [self.headline, *cautions(study), *map(_line, self.analysis.rows), *choice_lines(study)]
        return "\n".join([*lines, f"Report: {self.page}"])

    def _repr_html_(self) -> str:
        lines = [f"<p><strong>{html.escape(self.headline)}</strong></p>"]
        lines += [f"<p>{html.escape(line)}</p>" for line in cautions(self.analysis.study)]
        return "\n".join([*lines, _html(results_table(self.analysis)), f"<p>Report: {html.escape(str(self.page))}</p>"])


def _row(found: RowAnalysis) -> StudyRow:
    row, by, accuracy = found.row, found.comparison, found.measures[ACCURACY.name]
    mean, sd = (accuracy.mean, accuracy.std) if accuracy else (None, None)
    setting = row.choice.best.setting if row.choice else {}
    if by is None:
        return StudyRow(row.name, row.role, len(row.runs), mean, sd, None, None, None, None, setting)
    test, verdict = by.test, str(by.verdict)
    difference = test.difference if test.runs else None
    of_test = (difference, test.interval, by.adjusted_p, verdict)
    return StudyRow(row.name, row.role, len(row.runs), mean, sd, *of_test, setting)


def _line(found: RowAnalysis) -> str:
    accuracy = f"  {found.row.name}: {ACCURACY.text(found.measures[ACCURACY.name])} % correct"
    return f"{accuracy}, {found.comparison.sentence()}" if found.comparison else accuracy


def _html(table: Table) -> str:
    """Return a table as HTML; its numbers are aligned right."""
    lines = [f"<tr>{''.join(f'<th>{html.escape(name)}</th>' for name in table.columns)}</tr>"]
    lines += [f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in table.rows]
    return f"<table>{''.join(lines)}</table>"
