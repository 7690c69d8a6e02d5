"""The statistics of a comparison, as plain functions on arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEVEL = 0.05  # chance that any row of a study is called helps or hurts although none differs
POWER = 0.8  # chance to tell that `runs_to_tell` asks for
MOST_RUNS = 1000  # the largest study that `runs_to_tell` considers
RESAMPLES = 2000  # draws of a bootstrap


class Verdict(StrEnum):
    """What may be said about a row."""

    HELPS = "helps"
    HURTS = "hurts"
    CANNOT_TELL = "cannot tell"


class Interval(NamedTuple):
    """A 95 % interval."""

    low: float
    high: float


@dataclass(frozen=True)
class Spread:
    """Mean of a measure over runs; with two runs or more, its sample standard deviation and t interval."""

    mean: float
    std: float | None
    interval: Interval | None


@dataclass(frozen=True)
class PairedTest:
    """Mean of paired differences; interval and p-value of Student's paired t-test.

    Both are ``None`` where the test says nothing: with fewer than two runs, and where every run differs by exactly the
    same amount, which is no spread to measure chance by. Where every difference is exactly 0, they are (0, 0) and 1.
    """

    runs: int
    difference: float
    std: float | None
    interval: Interval | None
    p_value: float | None


def spread(values: Sequence[float] | NDArray[np.float64]) -> Spread | None:
    """Summarize one value a run; ``None`` without runs."""
    if len(values) == 0:
        return None
    mean = float(np.mean(values))
    if len(values) == 1:
        return Spread(mean, None, None)
    std = float(np.std(values, ddof=1))
    margin = float(stats.t.ppf(0.975, len(values) - 1)) * std / len(values) ** 0.5
    return Spread(mean, std, Interval(mean - margin, mean + margin))


def paired_test(differences: NDArray[np.float64]) -> PairedTest:
    """Test whether paired differences, one a seed, have mean 0."""
    runs = len(differences)
    if runs < 2:
        return PairedTest(runs, float(differences.mean()) if runs else float("nan"), None, None, None)
    difference = float(differences.mean())
    if np.ptp(differences) < 1e-12:  # rounding aside, all the same
        same = difference if abs(difference) >= 1e-12 else 0.0
        return PairedTest(runs, same, 0.0, None if same else Interval(0.0, 0.0), None if same else 1.0)
    test = stats.ttest_1samp(differences, 0.0)
    low, high = test.confidence_interval(0.95)
    std = float(differences.std(ddof=1))
    return PairedTest(runs, difference, std, Interval(float(low), float(high)), float(test.pvalue))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Correct p-values for their number with Holm's step-down method (1979); ``None`` counts as a test, and stays."""
    p = np.array([1.0 if value is None else value for value in p_values])
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return [None if old is None else float(new) for old, new in zip(p_values, adjusted, strict=True)]


def verdict(test: PairedTest, adjusted: float | None) -> Verdict:
    """Say what a test and its corrected p-value allow to say."""
    if adjusted is None or adjusted >= LEVEL:
        return Verdict.CANNOT_TELL
    return Verdict.HELPS if test.difference > 0 else Verdict.HURTS


def judge(differences: Sequence[NDArray[np.float64]]) -> list[tuple[PairedTest, float | None, Verdict]]:
    """Test all rows of a study together: one array of paired differences a row.

    The chance that any row without an effect is called helps or hurts is at most ``LEVEL`` for the whole study.
    """
    tests = [paired_test(row) for row in differences]
    adjusted = holm([test.p_value for test in tests])
    return [(test, p, verdict(test, p)) for test, p in zip(tests, adjusted, strict=True)]


def power(effect: float, runs: int, level: float) -> float:
    """Chance that a two-sided paired t-test finds an effect in its direction.

    Args:
        effect: Mean difference in standard deviations of the differences.
        runs: Paired runs, 2 or more.
        level: Level of the test.
    """
    threshold = stats.t.ppf(1 - level / 2, runs - 1)
    return float(stats.nct.sf(threshold, runs - 1, abs(effect) * runs**0.5))


def runs_to_tell(test: PairedTest, rows: int) -> int | None:
    """Fewest runs in all with which a difference as large as the one measured is found with a chance of ``POWER``.

    Args:
        test: The test so far, with a standard deviation above 0, that could not tell.
        rows: Rows tested together, for Holm's strictest step.

    Returns:
        The number, or ``None`` where it is more than ``MOST_RUNS``.
    """
    assert test.std
    effect = test.difference / test.std
    more = range(test.runs + 1, MOST_RUNS + 1)
    return next((runs for runs in more if power(effect, runs, LEVEL / rows) >= POWER), None)


def bootstrap_interval(differences: NDArray[np.int8], seed: int = 0) -> Interval | None:
    """Percentile interval of the mean difference when both seeds and test images are drawn anew.

    Seeds and images are drawn independently with replacement and crossed (Owen 2007, "The pigeonhole bootstrap",
    https://arxiv.org/abs/0712.1111), which errs on the wide side.

    Args:
        differences: (runs, N) of -1, 0 and 1: the row's ``correct`` less the baseline's, on the same images.
        seed: Seed of the draws.

    Returns:
        The interval as fractions, or ``None`` with fewer than two runs.
    """
    runs, images = differences.shape
    if runs < 2:
        return None
    generator = np.random.default_rng(seed)
    by_image = np.ascontiguousarray(differences.T, dtype=np.float32)  # (N, runs)
    means = np.empty(RESAMPLES)
    for draw in range(RESAMPLES):
        counts = np.bincount(generator.integers(images, size=images), minlength=images).astype(np.float32)
        of_runs = counts @ by_image / images
        means[draw] = of_runs[generator.integers(runs, size=runs)].mean()
    low, high = np.quantile(means, (0.025, 0.975))
    return Interval(float(low), float(high))
