"""A study's report as terminal text, Markdown, CSV and JSON."""

import csv
import io
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from kd_lightning.report.analysis import MEASURES, Analysis, RowAnalysis
from kd_lightning.report.choices import choice_lines, choices_table, choices_to_lines
from kd_lightning.report.error_control import cautions, error_sentence, new_study, worse_teachers
from kd_lightning.report.statistics import Verdict
from kd_lightning.report.tables import (
    Table,
    classes_table,
    cost_notes,
    headline,
    measures_table,
    method,
    results_table,
    settings_table,
)
from kd_lightning.strict_json import strict_json
from kd_lightning.wording import in_csv, in_markdown

WIDE = ("95 % interval", "Bootstrap interval", "p", "p (Holm)")
ABREAST = 4
"""Rows whose measures fit beside each other."""
COLOURS = {
    Verdict.HELPS: "bold green",
    Verdict.HURTS: "bold red",
    Verdict.INCONCLUSIVE: "bold yellow",
    Verdict.NONE: "yellow",
}


def to_terminal(analysis: Analysis) -> Group:
    """Return the answer, a sentence for each row, the results and the other measures, for ``rich`` to print."""
    study, results, measures = analysis.study, results_table(analysis), measures_table(analysis)
    verdicts = [
        Padding(Text.assemble((f"{row.name} ", "bold"), (by.sentence(), COLOURS[by.verdict])), (0, 0, 0, 2))
        for row, by in analysis.compared
    ]
    return Group(
        Text(headline(analysis), "bold"),
        *(Text(line, "bold yellow") for line in cautions(study)),
        *verdicts,
        *map(Text, choice_lines(study)),
        *(Text(line, "red") for line in failure_lines(analysis)),
        Text(error_sentence(study)),
        "",
        _rich_table(results, WIDE),  # the sentences above have them
        *(_rich_table(table) for table in _turned(measures) if table.rows),
    )


def failure_lines(analysis: Analysis) -> list[str]:
    """Return one line for every run that failed."""
    return [
        f"{row.name}, seed {failure.seed} failed: {failure.reason}"
        for row in analysis.study.rows
        for failure in row.failures
    ]


def to_markdown(analysis: Analysis) -> str:
    """Return the whole report as Markdown: the answer first, then the tables, the settings and the method."""
    study, settings = analysis.study, settings_table(analysis)
    parts = [f"# {in_markdown(study.name)}", f"**{in_markdown(headline(analysis))}**"]
    parts += map(in_markdown, cautions(study))
    parts.append("\n".join(f"- **{in_markdown(row.name)}** {by.sentence()}" for row, by in analysis.compared))
    parts.append("\n".join(f"- {in_markdown(line)}" for line in failure_lines(analysis)))
    parts += [in_markdown(line) for line in (error_sentence(study), *new_study(study, analysis.compared))]
    parts += ["\n".join(f"- {in_markdown(line)}" for line in choice_lines(study))]
    for table in (results_table, choices_table, measures_table, classes_table):
        shown = table(analysis)
        parts += [f"## {shown.title}", markdown_table(shown)] if len(shown.columns) > 1 and shown.rows else []
        parts += map(in_markdown, cost_notes(analysis)) if table is measures_table else []
    lines = (f"- {name}: {in_markdown(value)}" for name, value in settings.rows)
    parts += [f"## {settings.title}", "\n".join(lines)]
    parts += ["## How to read it", "\n".join(f"- {line}" for line in method(analysis))]
    return "\n\n".join(filter(None, parts)) + "\n"


def to_csv(analysis: Analysis) -> str:
    """Return one line a row of the study, with fractions."""
    return _csv([_flat(found) for found in analysis.rows])


def runs_to_csv(analysis: Analysis) -> str:
    """Return one line a run, enough to do the statistics again."""
    names = [measure.name for measure in MEASURES]
    lines: list[dict[str, Any]] = []
    for row in analysis.study.rows:
        for run in row.runs:
            measures = {name: getattr(run, name) for name in names}
            lines.append({"row": row.name, "seed": run.seed, **measures, "failure": None})
        for failure in row.failures:
            lines.append({"row": row.name, "seed": failure.seed, **dict.fromkeys(names), "failure": failure.reason})
    return _csv(lines)


def choices_to_csv(analysis: Analysis) -> str:
    """Return one line a setting that was tried; empty where none were."""
    lines = choices_to_lines(analysis.study)
    return _csv(lines) if lines else ""


def to_json(analysis: Analysis) -> str:
    """Return the study with all its runs and statistics."""
    study = analysis.study
    plain = {
        "headline": headline(analysis),
        "worse_teachers": worse_teachers(study),
        "error_control": error_sentence(study),
        "choices": choice_lines(study),
        "new_study": new_study(study, analysis.compared),
        "rows": [_to_plain(found) for found in analysis.rows],
        "study": study.to_plain(),
    }
    return strict_json(plain, indent=1) + "\n"


def _to_plain(found: RowAnalysis) -> dict[str, Any]:
    by = found.comparison
    return {
        "name": found.row.name,
        "measures": {name: value and asdict(value) for name, value in found.measures.items()},
        "comparison": by and {**asdict(by), "sentence": by.sentence()},
    }


def markdown_table(table: Table) -> str:
    """Return a table as Markdown."""
    heads = [[in_markdown(name) for name in table.columns], ["---", *["---:"] * (len(table.columns) - 1)]]
    body = [[in_markdown(cell) for cell in row] for row in table.rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in [*heads, *body])


def _flat(found: RowAnalysis) -> dict[str, Any]:
    row, by = found.row, found.comparison
    flat: dict[str, Any] = {"row": row.name, "config": row.config, "role": row.role}
    flat |= {"runs": len(row.runs), "failed": len(row.failures), "reported": row.reported}
    for name, value in found.measures.items():
        flat |= {f"{name}_mean": value and value.mean, f"{name}_std": value and value.std}
    interval, bootstrap = (by.test.interval, by.bootstrap) if by else (None, None)
    return flat | {
        "difference": by and by.test.difference,
        "difference_low": interval and interval.low,
        "difference_high": interval and interval.high,
        "bootstrap_low": bootstrap and bootstrap.low,
        "bootstrap_high": bootstrap and bootstrap.high,
        "p_value": by and by.test.p_value,
        "p_value_holm": by and by.adjusted_p,
        "verdict": by and str(by.verdict),
        "exploratory": row.exploratory or None,
        "setting": row.choice and row.choice.best.text,
        "settings_tried": row.choice and len(row.choice.tried),
        "new_seeds": by and by.new_seeds,
    }


def _csv(lines: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]) if lines else [], lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writeheader()
    writer.writerows({name: in_csv(_rounded(value)) for name, value in line.items()} for line in lines)
    return text.getvalue()


def _rounded(value: object) -> object:
    """Return a number with six digits, or all of an integer's."""
    if not isinstance(value, float) or not math.isfinite(value):
        return value
    return int(value) if value.is_integer() else round(value) if abs(value) >= 1e6 else float(f"{value:.6g}")


def _turned(table: Table) -> Iterator[Table]:
    """Make rows columns, in tables that fit into 80 columns: the first of the rows, the next ones, and so on."""
    for start in range(0, len(table.rows), ABREAST):
        names, *measures = zip(*table.rows[start : start + ABREAST], strict=True)
        rows = [(title, *cells) for title, cells in zip(table.columns[1:], measures, strict=True)]
        yield Table("" if start else table.title, ("Measure", *names), tuple(rows))


def _rich_table(table: Table, left_out: Collection[str] = ()) -> RichTable:
    shown = RichTable(
        title=escape(table.title) or None, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 0)
    )
    kept = [index for index, name in enumerate(table.columns) if name not in left_out]
    for index in kept:
        shown.add_column(
            escape(table.columns[index]).replace(" (", "\n("), justify="right" if index else "left", overflow="fold"
        )
    for row in table.rows:
        shown.add_row(*(escape(row[index]) for index in kept))
    return shown
