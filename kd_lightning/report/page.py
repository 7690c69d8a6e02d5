"""A study's report as one self-contained HTML page."""

from base64 import b64encode
from hashlib import sha256
from html import escape

from kd_lightning import pages
from kd_lightning.compare.results import Row
from kd_lightning.report.analysis import ACCURACY, MAX_CLASSES, NOTHING, Analysis
from kd_lightning.report.comparison import Comparison, interval_text, points
from kd_lightning.report.error_control import cautions, error_sentence, new_study
from kd_lightning.report.figures import LEGENDS, few_note, legend, plot
from kd_lightning.report.panel import PALETTE, to_svg
from kd_lightning.report.statistics import Verdict
from kd_lightning.report.tables import (
    Table,
    classes_table,
    cost_notes,
    headline,
    measures_table,
    method,
    p_text,
    results_table,
    runs_table,
    settings_table,
)
from kd_lightning.report.text import failure_lines
from kd_lightning.wording import counted

ROOM = "kd_lightning.report"
MARKS = {Verdict.HELPS: "▲", Verdict.HURTS: "▼", Verdict.INCONCLUSIVE: "?", Verdict.NONE: NOTHING}
STYLES = {Verdict.HELPS: "good", Verdict.HURTS: "bad", Verdict.INCONCLUSIVE: "unsure", Verdict.NONE: "unsure"}


def to_page(analysis: Analysis) -> str:
    """Return the whole report as one HTML page."""
    study = analysis.study
    size = f"{counted(study.settings.epochs, 'epoch')} · {counted(len(study.settings.seeds), 'seed')}"
    script = pages.script(ROOM, ("page.js",))
    return pages.page(
        ROOM,
        f"{study.name}: {headline(analysis)}",
        policy=f"script-src 'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'",
        eyebrow=escape(f"{study.name} · {study.settings.data} · {size}"),
        headline=escape(headline(analysis)),
        lead=_lead(analysis),
        cards=_cards(analysis),
        failures=_failures(analysis),
        results=_table(results_table(analysis)),
        accuracy=_accuracy(analysis),
        curves=_curves(analysis),
        classes=_classes(analysis),
        confusion=_confusion(analysis),
        costs=_costs(analysis),
        runs=_table(runs_table(analysis)),
        settings=_settings(analysis),
        method="\n".join(f"<li>{escape(line)}</li>" for line in method(analysis)),
        script=script,
    )


def _lead(analysis: Analysis) -> str:
    study, baseline = analysis.study, analysis.study.baseline
    (accuracy,) = (found.measures["test_accuracy"] for found in analysis.rows if found.row == baseline)
    against = f"Test accuracy compared with {baseline.name} ({ACCURACY.text(accuracy)} %), paired by seed."
    lines = [*cautions(study), f"{against} {error_sentence(study)}", *new_study(study, analysis.compared)]
    return "<br>".join(escape(line) for line in lines)


def _cards(analysis: Analysis) -> str:
    cards = "".join(_card(row, by) for row, by in analysis.compared)
    note = "Thick: 95 % interval of the difference. Thin: the same over resampled test images (bootstrap)."
    figure = _figures(analysis, "differences")
    under = f'<div class="under">{figure}<p class="note under">{note}</p></div>' if figure else ""
    return f'<div class="cards">{cards}</div>{under}' if cards else ""


def _card(row: Row, by: Comparison) -> str:
    size = f"{points(by.test.difference)} <small>points</small>" if by.test.runs else NOTHING
    p = f", p = {p_text(by.adjusted_p)}".replace("= <", "< ") if by.adjusted_p is not None else ""
    interval = f"95 %: {interval_text(by.test.interval)}{p}." if by.test.interval else ""
    text = by.advice() or (by.outcome if by.why else "")
    advice = f"{text[:1].upper()}{text[1:]}." if text else ""
    return (
        f'<article class="card {STYLES[by.verdict]}"><header><h2>{escape(row.name)}</h2>'
        f'<span class="pill">{MARKS[by.verdict]} {by.verdict}</span></header><p class="big">{size}</p>'
        f'<p class="why">{escape(f"{interval} {advice}")}</p></article>'
    )


def _failures(analysis: Analysis) -> str:
    lines = "".join(f"<li>{escape(line)}</li>" for line in failure_lines(analysis))
    return f'<div class="failures"><strong>Runs that failed</strong><ul>{lines}</ul></div>' if lines else ""


def _accuracy(analysis: Analysis) -> str:
    note = "Small dots are runs, the large dot is their mean with its 95 % interval."
    if any(found.row.reported is not None for found in analysis.rows):
        note += " A hollow diamond is what others report, with their own settings and data."
    return _plot(analysis, "accuracy", "Test accuracy, run by run", note)


def _curves(analysis: Analysis) -> str:
    note = f"Means over seeds; the band is one standard deviation. {few_note(analysis)}"
    return _plot(analysis, "curves", "Training", note)


def _classes(analysis: Analysis) -> str:
    title = "Class by class"
    table = f"<details><summary>Accuracies</summary>{_table(classes_table(analysis))}</details>"
    most = "" if len(analysis.study.class_names) <= MAX_CLASSES else "The classes that differ most. "
    note = f"{most}Difference to {analysis.study.baseline.name}; its 95 % intervals are not corrected: no verdicts."
    shown = _plot(analysis, "classes", title, f"{note} {few_note(analysis)}", table)
    return shown or _section(title, "", table)


def _confusion(analysis: Analysis) -> str:
    note = "All runs together, in per cent of the true class (rows); columns are predictions."
    return _plot(analysis, "confusion", "What is taken for what", f"{note} {few_note(analysis)}")


def _costs(analysis: Analysis) -> str:
    table = measures_table(analysis)
    note = f"Mean test accuracy (%); the bar is one standard deviation over runs. {few_note(analysis)}"
    missing = "".join(f'<p class="note under">{escape(line)}</p>' for line in cost_notes(analysis))
    measures = f"<h3>{escape(table.title)}</h3>{_table(table)}{missing}"
    return _plot(analysis, "costs", "Accuracy against cost", note, measures)


def _plot(analysis: Analysis, name: str, title: str, note: str, below: str = "") -> str:
    """Return a plot's section; nothing without data."""
    figures = _figures(analysis, name)
    return _section(title, note, f"{_legend(analysis, name)}{figures}{below}") if figures else ""


def _section(title: str, note: str, body: str) -> str:
    return f'<section><h2>{escape(title)}</h2><p class="note">{escape(note)}</p>{body}</section>'


def _settings(analysis: Analysis) -> str:
    rows = settings_table(analysis).rows
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows)
    return f'<dl class="panel">{items}</dl>'


def _figures(analysis: Analysis, name: str) -> str:
    """Return a plot's panels as figures, in a grid where it may have several; nothing without data."""
    figures = []
    for number, panel in enumerate(plot(analysis, name)):
        caption = f"<figcaption>{escape(panel.title)}</figcaption>" if panel.title else ""
        svg = to_svg(panel, f"{name}: {panel.title}" if panel.title else name, f"{name}{number}")
        figures.append(f'<figure class="panel" data-plot="{name}">{caption}{svg}</figure>')
    return f'<div class="grid">{"".join(figures)}</div>' if figures else ""


def _legend(analysis: Analysis, name: str) -> str:
    keys = (
        f'<span class="key" style="--c:var(--{PALETTE[colour]})">{escape(row)}</span>'
        for row, colour in legend(analysis, name)
    )
    return f'<div class="legend">{"".join(keys)}</div>' if name in LEGENDS else ""


def _table(table: Table) -> str:
    heads = "".join(
        f'<th scope="col" aria-sort="none"><button type="button">{escape(name)}</button></th>' for name in table.columns
    )
    lines = "".join(
        f'<tr><th scope="row"><span>{escape(head)}</span></th>{"".join(map(_cell, cells))}</tr>'
        for head, *cells in table.rows
    )
    label = escape(table.title)
    return (
        f'<div class="scroll" role="region" aria-label="{label}" tabindex="0"><table><thead><tr>{heads}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


def _cell(text: str) -> str:
    if text in STYLES:
        verdict = Verdict(text)
        return f'<td><span class="pill {STYLES[verdict]}">{MARKS[verdict]} {verdict}</span></td>'
    words = ' class="words"' if len(text) > 20 else ""
    return f"<td{words}>{escape(text)}</td>"
