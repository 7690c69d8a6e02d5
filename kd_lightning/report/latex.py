"""A study's results as a LaTeX table for a paper."""

import re

from kd_lightning.report.analysis import ACCURACY, NOTHING, Analysis
from kd_lightning.report.choices import choice_lines
from kd_lightning.report.tables import headline, results_table
from kd_lightning.wording import counted, shown

HEADS = {
    "Row": "",
    ACCURACY.title: r"Accuracy (\%)",
    "Reported (%)": r"Reported (\%)",
    "Difference (points)": r"$\Delta$",
    "95 % interval": r"95\,\% interval",
    "p (Holm)": "$p$",
    "Runs": "Runs",
    "Verdict": "Verdict",
}
"""The columns of a table for a paper, in their order, and their short names."""

SPECIAL = {
    **{character: rf"\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "\N{MINUS SIGN}": "$-$",
    "\N{PLUS-MINUS SIGN}": r"$\pm$",
    NOTHING: "--",
}


def to_latex(analysis: Analysis) -> str:
    """Return the results as a floating table with rules of the package booktabs, narrow enough for a page."""
    table = results_table(analysis)
    columns = {name: [row[place] for row in table.rows] for place, name in enumerate(table.columns)}
    left_out = {"Runs"} if len({len(row.runs) for row in analysis.study.rows if row.role != "teacher"}) == 1 else set()
    kept = [name for name in HEADS if name not in left_out and set(columns.get(name, ())) - {NOTHING}]
    body = zip(*([escape_latex(cell) for cell in columns[name]] for name in kept), strict=True)
    head, *lines = (f"    {' & '.join(cells)} \\\\" for cells in ([HEADS[name] for name in kept], *body))
    parts = [
        r"% \usepackage{booktabs}",
        r"\begin{table}",
        r"  \centering\small\setlength{\tabcolsep}{4pt}",
        rf"  \caption{{{_caption(analysis)}}}",
        rf"  \label{{tab:{re.sub('[^A-Za-z0-9]+', '-', analysis.study.name)}}}",
        rf"  \begin{{tabular}}{{l{'r' * (len(kept) - 2)}l}}",
        r"    \toprule",
        head,
        r"    \midrule",
        *lines,
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(parts) + "\n"


def _caption(analysis: Analysis) -> str:
    study = analysis.study
    runs = counted(len(study.baseline.runs), "run")
    text = escape_latex(
        f"Test accuracy on {study.settings.data} after {counted(study.settings.epochs, 'epoch')}, mean ± standard "
        f"deviation over {runs}. {' '.join([headline(analysis), *choice_lines(study)])}"
    )
    baseline = escape_latex(study.baseline.name)
    tested = rf" $\Delta$: difference to {baseline} in points, paired by seed; interval: Student's $t$; $p$: Holm."
    return text + (tested if analysis.compared else "")


def escape_latex(text: str) -> str:
    """Return a text that LaTeX shows as it is."""
    return re.sub(f"[{re.escape(''.join(SPECIAL))}]", lambda found: SPECIAL[found[0]], shown(text))
