"""The result of each compared row: its difference to the baseline, and the verdict where there is one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kd_lightning.compare.results import Row, Run, Study
from kd_lightning.report.looks import LookResult, give_verdicts
from kd_lightning.report.statistics import (
    LEVEL,
    MAX_RUNS,
    MIN_RUNS,
    Interval,
    PairedTest,
    Verdict,
    bootstrap_interval,
    paired_test,
    seeds_needed,
)
from kd_lightning.wording import counted


@dataclass(frozen=True)
class Comparison:
    """A row compared with the baseline on test accuracy, in [0, 1], over the planned seeds of its look.

    Attributes:
        test: Paired t-test of the differences; its interval has the level of the look.
        adjusted_p: Its p-value corrected for the study's rows and looks; ``None`` without a verdict.
        bootstrap: Interval over resampled seeds and test images.
        verdict: The verdict.
        why: Why there is no verdict, to print after it; empty where there is one.
        new_seeds: Seeds with which a new study would find a difference of this size; ``None`` where called or unknown.
        all_seeds: Exploratory test of all seeds, where there are more than the verdict uses.
    """

    test: PairedTest
    adjusted_p: float | None
    bootstrap: Interval | None
    verdict: Verdict
    why: str = ""
    new_seeds: int | None = None
    all_seeds: PairedTest | None = None

    @property
    def outcome(self) -> str:
        """The verdict, or why there is none."""
        return f"{self.verdict}{self.why}"

    def sentence(self) -> str:
        """Return the verdict with its reason, such as ``helps: +0.71 points (+0.40 to +1.02; p 0.004)``."""
        size = f"{points(self.test.difference)} points" if self.test.runs else ""
        p = f"; p {p_text(self.adjusted_p)}" if self.adjusted_p is not None else ""
        size += f" ({interval_text(self.test.interval)}{p})" if self.test.interval else ""
        return ": ".join(filter(None, (self.outcome, "; ".join(filter(None, (size, self.advice()))))))

    def advice(self) -> str:
        """Return the limits of the verdict, or what it takes to reach one; may be empty."""
        found = self.all_seeds
        beyond = f"with all {found.runs} seeds {points(found.difference)} (exploratory)" if found else ""
        return "; ".join(filter(None, (self._limits(), beyond)))

    def _limits(self) -> str:
        if self.verdict is Verdict.NONE:
            return ""
        if self.verdict is not Verdict.INCONCLUSIVE:
            shaky = self.bootstrap is not None and self.bootstrap.low <= 0 <= self.bootstrap.high
            return "on other test images it could be none" if shaky else ""
        if self.test.std == 0:
            same = "exactly 0" if self.test.difference == 0 else "exactly the same"
            return f"the difference is {same} in every run"
        if self.new_seeds is None:
            return f"even a new study with {MAX_RUNS} new seeds might not find a difference this small"
        return f"a new study with about {self.new_seeds} new seeds would find a difference this large"


def p_text(p: float) -> str:
    """Return a p-value with three digits."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def points(fraction: float) -> str:
    """Return a difference of fractions in signed percentage points."""
    text = f"{100 * fraction:+.2f}".replace("-", "\N{MINUS SIGN}")
    return text if float(text[1:]) else text[1:]


def interval_text(interval: Interval) -> str:
    """Return an interval of fractions in percentage points."""
    return f"{points(interval.low)} to {points(interval.high)}"


def paired_runs(row: Row, baseline: Row) -> list[tuple[Run, Run]]:
    """Return (run, baseline's run) for every seed that both finished."""
    of_baseline = {run.seed: run for run in baseline.runs}
    return [(run, of_baseline[run.seed]) for run in row.runs if run.seed in of_baseline]


def compare_rows(study: Study) -> list[Comparison]:
    """Compare the students with the baseline: those of the plan are tested together, the others get no verdict."""
    plan, students = study.settings.plan, [row for row in study.rows if row.role == "student"]
    in_plan = {row.name: row for row in students if not row.exploratory}
    differences = [_planned_differences(in_plan.get(name), study) for name in plan.rows]
    found = dict(zip(plan.rows, give_verdicts(differences, plan.looks), strict=True))
    return [_compare(row, study, None if row.exploratory else found[row.name]) for row in students]


def joined(names: Sequence[str], word: str = "and") -> str:
    """Return names as a list in prose, such as ``a, b and c``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"


def too_few(seeds: int) -> str:
    """Return that a number of seeds is below ``MIN_RUNS``, in words."""
    return f"{counted(seeds, 'seed')} {'is' if seeds == 1 else 'are'} too few"


def _compare(row: Row, study: Study, found: LookResult | None) -> Comparison:
    pairs = paired_runs(row, study.baseline)
    if found is None:
        test = paired_test(_differences(pairs))
        return Comparison(test, None, _bootstrap(pairs, LEVEL), Verdict.NONE, f" ({row.exploratory})")
    seeds = study.settings.plan.seeds[: found.look or None]
    counted_in = [pair for pair in pairs if pair[0].seed in seeds]
    wanted = found.verdict is Verdict.INCONCLUSIVE and found.test.std
    return Comparison(
        found.test,
        found.adjusted,
        _bootstrap(counted_in, found.level),
        found.verdict,
        _why(row, study, found.look) if found.verdict is Verdict.NONE else "",
        seeds_needed(found.test, len(study.settings.plan.rows)) if wanted else None,
        paired_test(_differences(pairs)) if len(pairs) > len(counted_in) else None,
    )


def _why(row: Row, study: Study, look: int) -> str:
    looks = study.settings.plan.looks
    if looks[-1] < MIN_RUNS:
        return f" ({too_few(looks[-1])})"
    needed = next(number for number in looks if number > look)
    planned = study.settings.plan.seeds[:needed]
    failed = sorted({failure.seed for failure in (*row.failures, *study.baseline.failures)} & set(planned))
    names = f" ({'seed' if len(failed) == 1 else 'seeds'} {joined(list(map(str, failed)))} failed)" if failed else ""
    return f" before all {needed} planned seeds are done{names}"


def _planned_differences(row: Row | None, study: Study) -> NDArray[np.float64]:
    """Return the difference of each planned seed; NaN where a run is missing."""
    pairs = paired_runs(row, study.baseline) if row else []
    known = dict(zip((run.seed for run, _ in pairs), _differences(pairs), strict=True))
    return np.array([known.get(seed, np.nan) for seed in study.settings.plan.seeds])


def _differences(pairs: Sequence[tuple[Run, Run]]) -> NDArray[np.float64]:
    """Return differences of accuracy; counts are subtracted, so that equal ones differ by exactly 0."""
    return np.array([(int(run.correct.sum()) - int(other.correct.sum())) / len(run.correct) for run, other in pairs])


def _bootstrap(pairs: Sequence[tuple[Run, Run]], level: float) -> Interval | None:
    if len(pairs) < 2:
        return None
    return bootstrap_interval(np.array([run.correct.astype(np.int8) - other.correct for run, other in pairs]), level)
