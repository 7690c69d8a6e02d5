"""The statistics of a comparison, as plain functions on arrays."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

LEVEL = 0.05  # chance that any row of a study is called helps or hurts although none differs
POWER = 0.8  # chance to find a difference that `seeds_needed` requires
MIN_RUNS = 3  # fewest seeds for a verdict: with two the t-test has 1 degree of freedom, and nearly no power
MAX_RUNS = 1000  # the largest study that `seeds_needed` considers
RESAMPLES = 2000  # draws of a bootstrap
BLOCK = 2**20  # counts of images that are multiplied at once


class Verdict(StrEnum):
    """Verdict on a row."""

    HELPS = "helps"
    HURTS = "hurts"
    INCONCLUSIVE = "inconclusive"
    NONE = "no verdict"


class Interval(NamedTuple):
    """A confidence interval, of 95 % by default."""

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

    Both are ``None`` where the test is undefined: with fewer than two runs, and where every run differs by exactly the
    same amount, so that the spread is 0. Where every difference is exactly 0, they are (0, 0) and 1.
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


def paired_test(differences: NDArray[np.float64], level: float = LEVEL) -> PairedTest:
    """Test whether paired differences, one a seed, have mean 0; the interval's coverage is 1 - ``level``."""
    runs = len(differences)
    if runs < 2:
        return PairedTest(runs, float(differences.mean()) if runs else float("nan"), None, None, None)
    difference = float(differences.mean())
    if np.ptp(differences) < 1e-12:  # equal up to rounding
        same = difference if abs(difference) >= 1e-12 else 0.0
        return PairedTest(runs, same, 0.0, None if same else Interval(0.0, 0.0), None if same else 1.0)
    std = float(differences.std(ddof=1))
    error = std / runs**0.5
    margin = float(special.stdtrit(runs - 1, 1 - level / 2)) * error
    p = 2 * float(special.stdtr(runs - 1, -abs(difference) / error))
    return PairedTest(runs, difference, std, Interval(difference - margin, difference + margin), p)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Correct p-values for their number with Holm's step-down method (1979); ``None`` counts as a test, and stays."""
    p = np.array([1.0 if value is None else value for value in p_values])
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return [None if old is None else float(new) for old, new in zip(p_values, adjusted, strict=True)]


def power(effect: float, runs: int, level: float) -> float:
    """Chance that a two-sided paired t-test finds an effect in its direction.

    Args:
        effect: Mean difference in standard deviations of the differences.
        runs: Paired runs, 2 or more.
        level: Level of the test.
    """
    threshold = stats.t.ppf(1 - level / 2, runs - 1)
    return float(stats.nct.sf(threshold, runs - 1, abs(effect) * runs**0.5))


def seeds_needed(test: PairedTest, rows: int) -> int | None:
    """Fewest seeds with which a new study finds a difference as large as the one measured with a chance of ``POWER``.

    Args:
        test: The test of this study, with a standard deviation above 0.
        rows: Rows tested together, for Holm's strictest step.

    Returns:
        The number, or ``None`` where it is more than ``MAX_RUNS``.
    """
    assert test.std
    effect = test.difference / test.std
    numbers = range(MIN_RUNS, MAX_RUNS + 1)
    place = bisect_left(numbers, POWER, key=lambda runs: power(effect, runs, LEVEL / rows))
    return numbers[place] if place < len(numbers) else None


@lru_cache(maxsize=2)
def _draws(images: int, runs: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw resamples, which the rows of a study share: how often each has an image, and its runs.

    The first takes ``RESAMPLES`` bytes an image: 20 MB for 10,000 images.
    """
    generator = np.random.default_rng(seed)
    counts, picked = np.empty((RESAMPLES, images), np.uint8), np.empty((RESAMPLES, runs), np.int64)
    for draw in range(RESAMPLES):
        counts[draw] = np.bincount(generator.integers(images, size=images), minlength=images)
        picked[draw] = generator.integers(runs, size=runs)
    return counts, picked


def bootstrap_interval(differences: NDArray[np.int8], level: float = LEVEL, seed: int = 0) -> Interval | None:
    """Percentile interval of the mean difference over resampled seeds and test images.

    Seeds and images are drawn independently with replacement and crossed (Owen 2007, "The pigeonhole bootstrap",
    https://arxiv.org/abs/0712.1111), which is conservative (too wide).

    Args:
        differences: (runs, N) of -1, 0 and 1: the row's ``correct`` less the baseline's, on the same images.
        level: 1 minus the coverage of the interval.
        seed: Seed of the draws.

    Returns:
        The interval as fractions, or ``None`` with fewer than two runs.
    """
    runs, images = differences.shape
    if runs < 2:
        return None
    by_image = np.ascontiguousarray(differences.T, dtype=np.float32)  # (N, runs)
    counts, picked = _draws(images, runs, seed)
    blocks = np.array_split(counts, max(1, counts.size // BLOCK))
    of_runs = np.concatenate([block.astype(np.float32) @ by_image for block in blocks]) / images  # (RESAMPLES, runs)
    means = np.take_along_axis(of_runs, picked, 1).mean(1)
    low, high = np.quantile(means, (level / 2, 1 - level / 2))
    return Interval(float(low), float(high))
