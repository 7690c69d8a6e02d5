"""The tables of a report as text, before any of its forms, and the sentence above them."""

from dataclasses import dataclass

from kd_lightning.report.analysis import ACCURACY, MEASURES, NOTHING, Analysis, RowAnalysis, class_spread
from kd_lightning.report.comparison import interval_text, joined, p_text, points
from kd_lightning.report.error_control import error_sentence
from kd_lightning.report.statistics import POWER, Verdict

CHOSEN = (
    "Settings are chosen on validation images of seeds that are not compared. The runs that are compared, and the test "
    "images, have no part in the choice, so that p and intervals need no correction for it."
)


@dataclass(frozen=True)
class Table:
    """A table with a title; the first column names the rows."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def headline(analysis: Analysis) -> str:
    """Return the finding of the study in one or two sentences."""
    baseline, found = analysis.study.baseline.name, []
    of = {verdict: [(row.name, by) for row, by in analysis.compared if by.verdict is verdict] for verdict in Verdict}
    for verdict in (Verdict.HELPS, Verdict.HURTS):
        decided = [(name, by.test.difference) for name, by in of[verdict]]
        if decided:
            found.append(_decided(decided, verdict, baseline))
    if unknown := of[Verdict.INCONCLUSIVE]:
        names, runs = _join([name for name, _ in unknown], "or"), max(by.test.runs for _, by in unknown)
        found.append(f"Inconclusive after {runs} seeds: whether {names} differs from {baseline}.")
    if waiting := of[Verdict.NONE]:
        outcomes = {by.outcome for _, by in waiting}
        found.append(
            f"{_join([name for name, _ in waiting])}: {outcomes.pop() if len(outcomes) == 1 else Verdict.NONE}."
        )
    return " ".join(found) or f"Nothing is compared to {baseline}."


def _decided(decided: list[tuple[str, float]], verdict: Verdict, baseline: str) -> str:
    names = f"{_join([name for name, _ in decided])} {verdict if len(decided) == 1 else str(verdict)[:-1]}"
    name, most = max(decided, key=lambda item: abs(item[1]))
    size = f"{points(most)} points against {baseline}"
    return f"{names}: {size}." if len(decided) == 1 else f"{names}, {_join([name])} most: {size}."


def _join(names: list[str], word: str = "and") -> str:
    """Join names; one that has a comma itself stands in quotation marks."""
    if len(names) > 4:
        return f"any of {len(names)} rows" if word == "or" else f"{len(names)} rows"
    return joined([f"“{name}”" if "," in name else name for name in names], word)


def results_table(analysis: Analysis) -> Table:
    """Return the verdict, test accuracy and its comparison to the baseline, a row each."""
    reported = any(found.row.reported is not None for found in analysis.rows)
    columns = ["Row", "Verdict", ACCURACY.title, "Difference (points)", "95 % interval", "p (Holm)"]
    columns += ["p", "Bootstrap interval", "Runs", *(["Reported (%)"] if reported else [])]
    settings, rows = analysis.study.settings, []
    for found in analysis.rows:
        shared = found.row.role == "teacher" and settings.teacher == "one for all seeds"
        done, planned = len(found.row.runs), 1 if shared else len(settings.seeds)
        accuracy, (verdict, *cells) = ACCURACY.text(found.measures[ACCURACY.name]), _comparison_cells(found)
        cells.append(str(done) if done == planned else f"{done} of {planned}")
        cells += [ACCURACY.show(found.row.reported)] if reported else []
        rows.append((found.row.name, verdict, accuracy, *cells))
    return Table("Test accuracy", tuple(columns), tuple(rows))


def measures_table(analysis: Analysis) -> Table:
    """Return every other measure that some run has."""
    shown = [measure for measure in MEASURES[1:] if any(found.measures[measure.name] for found in analysis.rows)]
    rows = [
        (found.row.name, *(measure.text(found.measures[measure.name]) for measure in shown)) for found in analysis.rows
    ]
    return Table("Beside accuracy", ("Row", *(measure.title for measure in shown)), tuple(rows))


def cost_notes(analysis: Analysis) -> list[str]:
    """Return why rows have no ONNX size and latency, a sentence each."""
    rows = [row for row in analysis.study.rows if row.no_costs]
    return [f"{row.name} has no ONNX size and latency, because {row.no_costs}" for row in rows]


def classes_table(analysis: Analysis) -> Table:
    """Return test accuracy by class: one line a class, one column a row of the study, its mean over runs."""
    rows = [found.row for found in analysis.rows]
    lines = []
    for index, name in enumerate(analysis.study.class_names):
        found = [class_spread([run.class_accuracy[index] for run in row.runs]) for row in rows]
        lines.append((name, *(ACCURACY.text(value) for value in found)))
    return Table("Test accuracy by class (%)", ("Class", *(row.name for row in rows)), tuple(lines))


def runs_table(analysis: Analysis) -> Table:
    """Return every run with its own numbers; a failed run has its reason instead."""
    lines = []
    for row in analysis.study.rows:
        for run in row.runs:
            values = (measure.show(getattr(run, measure.name)) for measure in MEASURES)
            lines.append((row.name, str(run.seed), *values, "finished"))
        for failure in row.failures:
            lines.append((row.name, str(failure.seed), *(NOTHING,) * len(MEASURES), failure.reason))
    return Table("Every run", ("Row", "Seed", *(measure.title for measure in MEASURES), "State"), tuple(lines))


def settings_table(analysis: Analysis) -> Table:
    """Return how the study was run, name and value."""
    settings = analysis.study.settings
    named = {
        "Command": settings.command,
        "Data": settings.data,
        "Protocol": settings.protocol,
        "Teacher": settings.teacher,
        "Epochs": str(settings.epochs),
        "Seeds": ", ".join(str(seed) for seed in settings.seeds),
        "Machine": settings.machine,
        "Versions": ", ".join(f"{name} {version}" for name, version in settings.versions.items()),
        "Date": settings.date,
        "Time": "" if settings.seconds is None else f"{settings.seconds / 60:,.1f} min",
    }
    return Table("Settings", ("Setting", "Value"), tuple((name, value) for name, value in named.items() if value))


def method(analysis: Analysis) -> tuple[str, ...]:
    """Return how the numbers are computed, a sentence or two each."""
    study = analysis.study
    baseline, policy, looks = study.baseline.name, study.settings.teacher, study.settings.plan.looks
    of_looks = (
        " and the looks (times 5 % over the look's level), the interval has its look's level, so that those of all "
        "looks hold together in 95 % of studies"
    )
    reported = "Reported is what others report for a row; their settings and data may differ from the study's."
    teachers = {
        "one for all seeds": "All seeds share one teacher: the intervals do not cover the choice of the teacher.",
        "one per seed": "Every seed has its own teacher.",
    }
    return (
        "± is one standard deviation over runs.",
        f"Differences to {baseline} are paired by seed: same starting weights, same batches in the same order.",
        error_sentence(study),
        *([CHOSEN] if any(row.choice for row in study.rows) else []),
        "Interval and p are Student's paired t-test's on the planned seeds; p (Holm) is corrected for the rows"
        f"{of_looks if len(looks) > 1 else ''}, the interval is not corrected for rows. What is exploratory has no "
        "verdict.",
        "The t interval holds for these test images. The bootstrap resamples seeds and test images, so it also holds "
        "for other test images; it is conservative (too wide).",
        "The number of new seeds is a rough guide: with it, a difference as large as the measured one is found with a "
        f"chance of {100 * POWER:.0f} %.",
        teachers[policy],
        *([reported] if any(row.reported is not None for row in study.rows) else []),
    )


def _comparison_cells(found: RowAnalysis) -> tuple[str, ...]:
    by = found.comparison
    if by is None:
        return (found.row.role, *(NOTHING,) * 5)
    return (
        str(by.verdict),
        points(by.test.difference) if by.test.runs else NOTHING,
        interval_text(by.test.interval) if by.test.interval else NOTHING,
        *(NOTHING if p is None else p_text(p) for p in (by.adjusted_p, by.test.p_value)),
        interval_text(by.bootstrap) if by.bootstrap else NOTHING,
    )
