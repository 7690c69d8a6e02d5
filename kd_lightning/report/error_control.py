"""Sentences on a study's error rate, and on what a reader must know before its numbers."""

import math
from collections.abc import Sequence

from kd_lightning.compare.results import Row, Study
from kd_lightning.compare.study_plan import StudyPlan
from kd_lightning.report.comparison import Comparison, joined, too_few
from kd_lightning.report.looks import levels
from kd_lightning.report.statistics import LEVEL, MIN_RUNS, Verdict, power
from kd_lightning.wording import counted

TYPICAL = 5
"""Default number of seeds of a new study."""


def error_sentence(study: Study) -> str:
    """Return how the study keeps its rate of false positives below ``LEVEL``."""
    plan = study.settings.plan
    return "".join(no_verdict(study)) or (
        f"Planned before the first run: {seeds_in_words(plan)}, {counted(len(plan.rows), 'row')}; with Student's "
        f"paired t-test on test accuracy and Holm's correction for the rows, the chance that this study reports helps "
        f"or hurts where nothing does is at most {100 * LEVEL:.0f} % (another study on the same question has its own)."
    )


def no_verdict(study: Study) -> list[str]:
    """Return why the study gives no verdict at all, in a sentence; none where it does."""
    plan = study.settings.plan
    if plan.exploratory:
        return [f"This study gives no verdict, because {plan.exploratory}."]
    return [f"{trial(plan.looks[-1])}."] if plan.looks[-1] < MIN_RUNS else []


def plan_sentence(study: Study) -> str:
    """Return ``error_sentence`` in short; empty where there is no verdict."""
    plan = study.settings.plan
    rows = counted(len(plan.rows), "row")
    text = (
        f"Planned before the first run: {seeds_in_words(plan)}, and {rows}; the chance of a false verdict is at most "
    )
    return "" if no_verdict(study) else f"{text}{100 * LEVEL:.0f}\N{NO-BREAK SPACE}%."


def seeds_in_words(plan: StudyPlan) -> str:
    """Return the planned seeds, and at which of them there are verdicts."""
    seeds = f"{counted(len(plan.seeds), 'seed')} ({plan.seeds[0]} to {plan.seeds[-1]})"
    if len(plan.looks) == 1:
        return f"{seeds if len(plan.seeds) > 1 else f'seed {plan.seeds[0]}'}, looked at once"
    shares = joined([f"{100 * level:.2g}" for level in levels(plan.looks)])
    looks = joined([str(look) for look in plan.looks])
    return f"{seeds}, looked at after {looks} of them at levels of {shares} %, which add up to {100 * LEVEL:.0f} %"


def trial(seeds: int) -> str:
    """Return why a study of one or two seeds has no verdict, and what to do."""
    if seeds == 1:
        reason = "one run shows no spread"
    else:
        found = 100 * power(2.0, 2, LEVEL)
        reason = f"a t-test with 1 degree of freedom finds even 2 standard deviations in {found:.0f} % of studies"
    return f"No verdict, because {too_few(seeds)}: {reason}; plan at least {MIN_RUNS}, better {TYPICAL} or more"


def cautions(study: Study) -> list[str]:
    """Return what a reader must know before the numbers: other versions or machines, bad teachers, unequal tuning."""
    others = (study.settings.other_versions, study.settings.other_machines)
    return [*filter(None, others), *worse_teachers(study), *uneven_effort(study)]


def worse_teachers(study: Study) -> list[str]:
    """Return a sentence for each teacher that is worse than the student without one."""
    baseline = _mean([run.test_accuracy for run in study.baseline.runs])
    if any(run.teacher_accuracy is not None for run in study.baseline.runs):
        return []  # the baseline has a teacher itself
    return [
        f"The teacher ({name}, {100 * accuracy:.2f} %) is worse than the student without a teacher "
        f"({study.baseline.name}, {100 * baseline:.2f} %): train a better one first."
        for name, accuracy in _teachers(study)
        if accuracy < baseline
    ]


def uneven_effort(study: Study) -> list[str]:
    """Return a sentence where a compared row was tuned over more settings than the baseline."""
    ours = len(study.baseline.choice.tried) if study.baseline.choice else 1
    more = [(row.name, len(row.choice.tried)) for row in study.rows if row.role == "student" and row.choice]
    return [
        f"{name} is the best of {counted(number, 'setting')}, but the baseline ({study.baseline.name}) "
        f"{'has only one' if ours == 1 else f'of only {ours}'}: a part of the difference may be that of the tuning, so "
        "tune the baseline as much."
        for name, number in more
        if number > ours
    ]


def _teachers(study: Study) -> list[tuple[str, float]]:
    """Return the name and the test accuracy of the study's teacher, or of those that its rows found."""
    own = [(row.name, _mean([run.test_accuracy for run in row.runs])) for row in study.rows if row.role == "teacher"]
    found = {row.name: [known for run in row.runs if (known := run.teacher_accuracy) is not None] for row in study.rows}
    return own or [(f"that of {name}", _mean(values)) for name, values in found.items()]


def new_study(study: Study, compared: Sequence[tuple[Row, Comparison]]) -> list[str]:
    """Return the command that starts a study with new seeds, where this one cannot give further verdicts.

    Its number of seeds suffices for the row that needs the fewest.
    """
    plan, command = study.settings.plan, study.settings.new_study
    over = plan.exploratory or plan.looks[-1] < MIN_RUNS or any(row.exploratory for row, _ in compared)
    needed = [by.new_seeds for _, by in compared if by.verdict is Verdict.INCONCLUSIVE and by.new_seeds]
    if not command or not (over or needed):
        return []
    command += f" --seeds {min(needed, default=TYPICAL)}"
    return [f"A new study, with new seeds, keeps these runs as a pilot that is not part of it: {command}"]


def _mean(values: Sequence[float]) -> float:
    """Return the mean; NaN, which is not below anything, without values."""
    return sum(values) / len(values) if values else math.nan
