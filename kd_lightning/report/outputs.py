"""All forms of a study's report as files."""

from collections.abc import Callable
from pathlib import Path

from kd_lightning.files import atomic_write
from kd_lightning.report.analysis import Analysis
from kd_lightning.report.figures import write_figures
from kd_lightning.report.latex import to_latex
from kd_lightning.report.page import to_page
from kd_lightning.report.text import choices_to_csv, runs_to_csv, to_csv, to_json, to_markdown

TEXTS: dict[str, Callable[[Analysis], str]] = {
    "report.html": to_page,
    "report.md": to_markdown,
    "report.tex": to_latex,
    "report.csv": to_csv,
    "runs.csv": runs_to_csv,
    "settings.csv": choices_to_csv,
    "report.json": to_json,
}


def write_report(analysis: Analysis, folder: Path) -> list[Path]:
    """Write the page, the other texts and, under ``figures``, the plots; return their paths, the page first."""
    texts = {name: text for name, form in TEXTS.items() if (text := form(analysis))}
    for name, text in texts.items():
        with atomic_write(folder / name) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
    return [*(folder / name for name in texts), *write_figures(analysis, folder / "figures")]
