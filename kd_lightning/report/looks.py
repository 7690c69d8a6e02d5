"""The looks at a study: the numbers of seeds at which its rows are tested, and the level of each test.

A row may be tested more than once, if the numbers of seeds are fixed before the first run (a group-sequential design).
Each look has its own level, and the levels add up to ``LEVEL``.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kd_lightning.report.statistics import LEVEL, MIN_RUNS, PairedTest, Verdict, holm, paired_test


class LookResult(NamedTuple):
    """The result of a row.

    Attributes:
        look: Number of seeds of its look; 0 where no look is complete.
        level: Level of that look.
        test: Test of the look's differences; of all finished ones where no look is complete.
        adjusted: p-value corrected for rows (Holm) and looks, to compare with ``LEVEL``; ``None`` without a verdict.
        verdict: The verdict.
    """

    look: int
    level: float
    test: PairedTest
    adjusted: float | None
    verdict: Verdict


def levels(looks: Sequence[int]) -> list[float]:
    """Return the level of each look; one look has all of ``LEVEL``.

    After a share t of the seeds, ``LEVEL`` t³ has been spent (alpha spending: Lan & DeMets 1983, Biometrika 70:659;
    this function: Kim & DeMets 1987, Biometrika 74:149), nearly as by O'Brien & Fleming (1979): early looks are
    strict, and the last one loses little power. A look's level is what is spent since the previous one. The levels add
    up, so the error rate holds for any dependence of the looks and for few seeds. The larger levels of the normal
    theory do not hold it for t statistics: with looks at 3, 5 and 8 seeds they call 5.4 % of studies without an effect.

    Args:
        looks: Numbers of seeds, rising.
    """
    spent = [0.0, *(LEVEL * (look / looks[-1]) ** 3 for look in looks)]
    return [after - before for before, after in pairwise(spent)]


def give_verdicts(differences: Sequence[NDArray[np.float64]], looks: Sequence[int]) -> list[LookResult]:
    """Test all rows of a study together at every complete look.

    The chance that any row without an effect is called helps or hurts, at any look, is at most ``LEVEL``. At each look
    Holm's method holds that of the rows still open at the look's level, and the levels add up. A row that was called at
    an earlier look keeps its verdict and makes room for the others (sequential rejection: Goeman & Solari 2010,
    Annals of Statistics 38:3782). Intervals have their look's level, so that those of all looks hold together in 95 %
    of studies (repeated confidence intervals: Jennison & Turnbull 1989, JRSS B 51:305), but are not corrected for rows.

    Args:
        differences: Of each planned row, the paired difference of each planned seed, (seeds,); NaN where a run is
            missing. A row has no verdict at a look before its runs up to there are finished, because bad runs may fail
            more often than good ones.
        looks: Numbers of seeds of the looks, rising; fewer than ``MIN_RUNS`` give no verdict.
    """
    found = [LookResult(0, LEVEL, paired_test(row[~np.isnan(row)]), None, Verdict.NONE) for row in differences]
    for look, level in zip(looks, levels(looks), strict=True):
        open_rows = [number for number, row in enumerate(found) if row.verdict is Verdict.NONE]
        tests = [_test(differences[number][:look], level) for number in open_rows]
        corrected = holm([test.p_value if test else None for test in tests])
        for number, test, p in zip(open_rows, tests, corrected, strict=True):
            if test is not None:
                adjusted = None if p is None else min(1.0, p * LEVEL / level)
                found[number] = _result(look, level, test, adjusted, last=look == looks[-1])
    return found


def _test(differences: NDArray[np.float64], level: float) -> PairedTest | None:
    """Test the differences of a look, or return ``None`` where runs are missing or too few were planned."""
    if len(differences) < MIN_RUNS or np.isnan(differences).any():
        return None
    return paired_test(differences, level)


def _result(look: int, level: float, test: PairedTest, adjusted: float | None, *, last: bool) -> LookResult:
    if adjusted is not None and adjusted < LEVEL:
        return LookResult(look, level, test, adjusted, Verdict.HELPS if test.difference > 0 else Verdict.HURTS)
    if last:
        return LookResult(look, level, test, adjusted, Verdict.INCONCLUSIVE)
    return LookResult(look, level, test, None, Verdict.NONE)
