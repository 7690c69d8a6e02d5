"""A study's report as one self-contained HTML page."""

import re
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from html import escape

from kd_lightning import pages
from kd_lightning.compare.results import Row
from kd_lightning.report.analysis import ACCURACY, NOTHING, Analysis
from kd_lightning.report.choices import choice_lines, choices_table
from kd_lightning.report.comparison import Comparison, interval_text, p_text, points
from kd_lightning.report.error_control import cautions, new_study, no_verdict, plan_sentence
from kd_lightning.report.figures import PLOTS, legend, panels
from kd_lightning.report.latex import to_latex
from kd_lightning.report.panel import PALETTE, Panel, to_svg
from kd_lightning.report.statistics import Verdict
from kd_lightning.report.tables import (
    CHOSEN,
    Table,
    classes_table,
    cost_notes,
    headline,
    measures_table,
    method,
    results_table,
    runs_table,
    settings_table,
)
from kd_lightning.report.text import failure_lines, markdown_table
from kd_lightning.wording import counted

ROOM = "kd_lightning.report"
FIRST = ("accuracy", "differences")
"""The plots beside the results."""
MAX_CARDS = 6
MARKS = {Verdict.HELPS: "▲", Verdict.HURTS: "▼", Verdict.INCONCLUSIVE: "?", Verdict.NONE: NOTHING}
STYLES = {Verdict.HELPS: "good", Verdict.HURTS: "bad", Verdict.INCONCLUSIVE: "unsure", Verdict.NONE: "unsure"}


def to_page(analysis: Analysis) -> str:
    """Return the whole report as one HTML page."""
    study = analysis.study
    size = f"{counted(study.settings.epochs, 'epoch')} · {counted(len(study.settings.seeds), 'seed')}"
    script = pages.script(ROOM, ("page.js",))
    below = {"classes": _classes(analysis), "costs": _costs(analysis)}
    return pages.page(
        ROOM,
        f"{study.name}: {headline(analysis)}",
        policy=f"script-src 'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'",
        eyebrow=escape(f"{study.name} · {study.settings.data} · {size}"),
        headline=escape(headline(analysis)),
        lead=escape(_lead(analysis)),
        warnings=_warnings(analysis),
        cards=_cards(analysis),
        results=_table(results_table(analysis)),
        answers=_answers(analysis),
        copies=_copies(analysis),
        choices=_choices(analysis),
        next=_new_study(analysis),
        plots="".join(_plot(analysis, name, below.get(name, "")) for name in PLOTS if name not in FIRST),
        runs=_table(runs_table(analysis)),
        settings=_settings(analysis),
        method="\n".join(f"<li>{escape(line)}</li>" for line in method(analysis)),
        script=script,
    )


def _lead(analysis: Analysis) -> str:
    study, baseline = analysis.study, analysis.study.baseline
    (accuracy,) = (found.measures["test_accuracy"] for found in analysis.rows if found.row == baseline)
    against = f"Test accuracy against {baseline.name} ({ACCURACY.text(accuracy)} %), paired by seed."
    return f"{against} {plan_sentence(study)}"


def _warnings(analysis: Analysis) -> str:
    """Return what a reader must know before the numbers, each in a box."""
    study = analysis.study
    boxes = [*cautions(study), *no_verdict(study)]
    failed = failure_lines(analysis)
    lines = "".join(f"<li>{escape(line)}</li>" for line in failed)
    failures = [f"<strong>Runs that failed</strong><ul>{lines}</ul>"] if failed else []
    return "".join(f'<div class="alert">{text}</div>' for text in (*map(escape, boxes), *failures))


def _cards(analysis: Analysis) -> str:
    """Return a card for each compared row, where they are few; the table says the same of many."""
    cards = "".join(_card(row, by) for row, by in analysis.compared)
    return f'<div class="cards">{cards}</div>' if cards and len(analysis.compared) <= MAX_CARDS else ""


def _answers(analysis: Analysis) -> str:
    """Return the plots of the results, side by side."""
    figures = "".join(_captioned(analysis, name) for name in FIRST)
    return f'<div class="grid">{figures}</div>' if figures else ""


def _captioned(analysis: Analysis, name: str) -> str:
    plot, found = PLOTS[name], panels(analysis, name)
    if not found:
        return ""
    note = f'<p class="note">{escape(plot.note(analysis))}</p>'
    return _figure(name, 0, replace(found[0], title=plot.title), note)


def _copies(analysis: Analysis) -> str:
    """Return the results as LaTeX and Markdown, to copy."""
    table = results_table(analysis)
    forms = {"LaTeX": to_latex(analysis), "Markdown": markdown_table(table) + "\n"}
    return "".join(
        f'<details class="copy"><summary>{name}</summary><button type="button">Copy</button>'
        f'<pre tabindex="0">{escape(text)}</pre></details>'
        for name, text in forms.items()
    )


def _choices(analysis: Analysis) -> str:
    """Return how settings were chosen, where they were."""
    table, lines = choices_table(analysis), choice_lines(analysis.study)
    if not lines:
        return ""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    every = f"<details><summary>Every setting</summary>{_table(table)}</details>"
    return _section(table.title, CHOSEN, f'<ul class="method">{items}</ul>{every}')


def _new_study(analysis: Analysis) -> str:
    found = new_study(analysis.study, analysis.compared)
    lines = (line.partition(": ") for line in found)
    return "".join(f'<p class="note">{escape(why)}:</p><pre tabindex="0">{escape(do)}</pre>' for why, _, do in lines)


def _card(row: Row, by: Comparison) -> str:
    size = f"{points(by.test.difference)} <small>points</small>" if by.test.runs else NOTHING
    p = f", p = {p_text(by.adjusted_p)}".replace("= <", "< ") if by.adjusted_p is not None else ""
    interval = f"95 %: {interval_text(by.test.interval)}{p}." if by.test.interval else ""
    text = by.advice() or (by.outcome if by.why else "")
    advice = f"{text[:1].upper()}{text[1:]}." if text else ""
    return (
        f'<article class="card {STYLES[by.verdict]}"><header><h2>{breakable(row.name)}</h2>'
        f'<span class="pill">{MARKS[by.verdict]} {by.verdict}</span></header><p class="big">{size}</p>'
        f'<p class="why">{escape(f"{interval} {advice}")}</p></article>'
    )


def _classes(analysis: Analysis) -> str:
    return f"<details><summary>Accuracies</summary>{_table(classes_table(analysis))}</details>"


def _costs(analysis: Analysis) -> str:
    table = measures_table(analysis)
    missing = "".join(f'<p class="note under">{escape(line)}</p>' for line in cost_notes(analysis))
    return f"<h3>{escape(table.title)}</h3>{_table(table)}{missing}"


def _plot(analysis: Analysis, name: str, below: str = "") -> str:
    """Return a plot's section with what belongs below it; nothing without data."""
    plot, found = PLOTS[name], panels(analysis, name)
    if not found and not below:
        return ""
    figures = "".join(_figure(name, number, panel) for number, panel in enumerate(found))
    return _section(
        plot.title, plot.note(analysis), f'{_legend(analysis, name)}<div class="grid">{figures}</div>{below}'
    )


def _section(title: str, note: str, body: str) -> str:
    return f'<section><h2>{escape(title)}</h2><p class="note">{escape(note)}</p>{body}</section>'


def _settings(analysis: Analysis) -> str:
    rows = settings_table(analysis).rows
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows)
    return f'<dl class="panel">{items}</dl>'


def _figure(name: str, number: int, panel: Panel, below: str = "") -> str:
    caption = f"<figcaption>{breakable(panel.title)}</figcaption>" if panel.title else ""
    svg = to_svg(panel, f"{name}: {panel.title}" if panel.title else name, f"{name}{number}")
    return f'<figure class="panel" data-plot="{name}">{caption}{svg}{below}</figure>'


def _legend(analysis: Analysis, name: str) -> str:
    keys = (
        f'<span class="key" style="--c:var(--{PALETTE[colour]})">{breakable(row)}</span>'
        for row, colour in legend(analysis, name)
    )
    return f'<div class="legend">{"".join(keys)}</div>' if PLOTS[name].legend else ""


def _table(table: Table) -> str:
    heads = "".join(
        f'<th scope="col" aria-sort="none"><button type="button">{escape(name)}</button></th>' for name in table.columns
    )
    lines = "".join(
        f'<tr><th scope="row"><span>{breakable(head)}</span></th>{"".join(map(_cell, cells))}</tr>'
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


def breakable(name: str) -> str:
    """Return a name as HTML that may break after an underscore, a dot or a slash, as it does between words."""
    return re.sub(r"(?<=[_./])(?=\w)", "<wbr>", escape(name))
