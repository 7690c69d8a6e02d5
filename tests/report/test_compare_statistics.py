"""The statistics of a comparison, compared with scipy and with simulated studies with a known effect."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from compare_example import example_run, example_study, with_rows
from numpy.typing import NDArray
from scipy import stats

from kd_lightning.compare.results import Row, Study
from kd_lightning.report.analysis import analyse, class_differences, shown_classes
from kd_lightning.report.comparison import points
from kd_lightning.report.looks import LookResult, give_verdicts
from kd_lightning.report.statistics import (
    MAX_RUNS,
    Interval,
    Verdict,
    bootstrap_interval,
    holm,
    paired_test,
    power,
    seeds_needed,
    spread,
)


def look_once(differences: Sequence[NDArray[np.float64]]) -> list[LookResult]:
    return give_verdicts(differences, looks=[len(differences[0])])


def simulated_studies(studies: int, rows: int, seeds: int, effect: float) -> NDArray[np.float64]:
    """Differences (studies, rows, seeds) to a shared baseline, in standard deviations of the differences."""
    generator = np.random.default_rng(seeds)
    baseline = generator.normal(size=(studies, 1, seeds))
    differences: NDArray[np.float64] = effect + (generator.normal(size=(studies, rows, seeds)) - baseline) / np.sqrt(2)
    return differences


def with_again(study: Study) -> Study:
    """Put the baseline's own runs in again, as a student."""
    return with_rows(study, *study.rows, replace(study.baseline, name="again", role="student"))


def test_the_paired_test_is_scipys() -> None:
    generator = np.random.default_rng(3)
    ours, theirs = generator.normal(0.65, 0.01, 7), generator.normal(0.64, 0.01, 7)
    found, expected = paired_test(ours - theirs), stats.ttest_rel(ours, theirs)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert found.difference == pytest.approx((ours - theirs).mean())
    assert found.std == pytest.approx((ours - theirs).std(ddof=1))


def test_mean_and_interval_of_one_row_are_scipys() -> None:
    values = [0.61, 0.64, 0.66, 0.65]
    found = spread(values)
    assert found is not None
    assert (found.mean, found.std) == pytest.approx((np.mean(values), stats.tstd(values)))
    assert found.interval == pytest.approx(stats.t.interval(0.95, 3, np.mean(values), stats.sem(values)))
    assert spread([]) is None


def test_holm_gives_the_textbook_values_and_keeps_rows_without_a_test() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.01, None]) == [pytest.approx(0.02), None]
    assert holm([]) == []


def test_an_effect_of_one_standard_deviation_is_found_in_nearly_all_studies_of_20_seeds() -> None:
    studies = simulated_studies(300, rows=3, seeds=20, effect=1.0)
    verdicts = [row.verdict for study in studies for row in look_once(study)]
    assert np.mean([verdict is Verdict.HELPS for verdict in verdicts]) > 0.95
    assert Verdict.HURTS not in verdicts
    hurt = [row.verdict for study in -studies[:50] for row in look_once(study)]
    assert np.mean([verdict is Verdict.HURTS for verdict in hurt]) > 0.9


@pytest.mark.parametrize(("effect", "runs"), [(1.0, 14), (0.5, 30), (2.0, 4)])
def test_power_is_what_simulation_finds(effect: float, runs: int) -> None:
    differences = np.random.default_rng(1).normal(effect, 1, (20_000, runs))
    found = np.mean(stats.ttest_1samp(differences, 0, axis=1).pvalue < 0.05 / 3)
    assert power(effect, runs, 0.05 / 3) == pytest.approx(found, abs=0.015)


def test_seeds_needed_is_the_first_number_with_enough_power() -> None:
    differences = np.array([0.02, -0.01, 0.01, 0.03, -0.005])
    test = paired_test(differences)
    needed = seeds_needed(test, rows=3)
    assert needed is not None
    effect = differences.mean() / differences.std(ddof=1)
    assert power(effect, needed, 0.05 / 3) >= 0.8 > power(effect, needed - 1, 0.05 / 3)
    assert seeds_needed(paired_test(differences - differences.mean() + 1e-5), rows=3) is None, MAX_RUNS


def test_the_bootstrap_is_the_exact_one_over_seeds_when_all_test_images_agree() -> None:
    of_seed = np.array([1, 0, -1, 1, 1, 0, 1, -1], dtype=np.int8)
    chances = np.ones(1)
    for _ in of_seed:  # the sum of eight draws from two -1, two 0 and four 1
        chances = np.convolve(chances, [0.25, 0.25, 0.5])
    low, high = np.searchsorted(chances.cumsum(), [0.025, 0.975]) / 8 - 1
    found = bootstrap_interval(np.repeat(of_seed[:, None], 50, axis=1))
    assert found == pytest.approx((low, high), abs=0.01)


def test_the_bootstrap_holds_the_effect_on_other_images_where_the_t_interval_does_not() -> None:
    generator = np.random.default_rng(5)
    within_t, within_bootstrap = 0, 0
    for _ in range(40):
        of_image = generator.choice([-1, 0, 1], size=(1, 100))  # no effect but on these images
        differences = np.where(generator.random((8, 100)) < 0.1, 0, of_image).astype(np.int8)
        interval, bootstrap = paired_test(differences.mean(axis=1)).interval, bootstrap_interval(differences)
        within_t += interval is None or interval.low <= 0 <= interval.high
        within_bootstrap += bootstrap is not None and bootstrap.low <= 0 <= bootstrap.high
    assert within_bootstrap >= 36
    assert within_t < 24


def test_the_same_runs_differ_by_exactly_zero_which_is_inconclusive() -> None:
    by = next(by for row, by in analyse(with_again(example_study())).compared if row.name == "again")
    assert (by.test.difference, by.test.std, by.test.interval, by.test.p_value) == (0.0, 0.0, (0.0, 0.0), 1.0)
    assert by.bootstrap == Interval(0.0, 0.0)
    assert by.verdict is Verdict.INCONCLUSIVE
    assert (
        by.sentence() == "inconclusive: 0.00 points (0.00 to 0.00; p 1.000); the difference is exactly 0 in every run"
    )


def test_a_difference_without_any_spread_is_not_called() -> None:
    (found,) = look_once([np.full(3, 0.01)])
    assert (found.test.interval, found.test.p_value, found.adjusted) == (None, None, None)
    assert found.verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("seeds", [[4], [4, 5]])
def test_one_seed_and_two_give_no_verdict(seeds: list[int]) -> None:
    for _, by in analyse(example_study(seeds=seeds)).compared:
        assert by.sentence().startswith(f"no verdict ({'1 seed is' if len(seeds) == 1 else '2 seeds are'} too few): ")
        assert (by.adjusted_p, by.new_seeds) == (None, None)


def test_only_seeds_that_both_rows_finished_are_compared() -> None:
    study = example_study()
    cosine = replace(study.rows[2], runs=study.rows[2].runs[1:])
    student = replace(study.rows[1], runs=study.rows[1].runs[:-1][::-1])
    found = analyse(replace(study, rows=(study.rows[0], student, cosine))).rows[2].comparison
    ours, theirs = ([run.test_accuracy for run in row.runs] for row in (study.rows[2], study.rows[1]))
    assert found is not None
    assert found.test.p_value == pytest.approx(stats.ttest_rel(ours[1:4], theirs[1:4]).pvalue)
    assert found.test.runs == 3


def test_teacher_and_baseline_are_not_compared_and_do_not_count_in_the_correction() -> None:
    study = example_study()
    reduced = with_rows(study, *study.rows[:3])
    assert [row.name for row, _ in analyse(study).compared] == ["cosine", "regress"]
    ((_, by),) = analyse(reduced).compared
    assert by.adjusted_p == by.test.p_value


def test_the_verdict_follows_the_corrected_p_value() -> None:
    runs = np.array([0.010, 0.012, -0.001, 0.013, 0.009])
    (single,) = look_once([runs])
    assert single.test.p_value is not None
    assert 0.05 / 3 < single.test.p_value < 0.05
    assert single.verdict is Verdict.HELPS
    noise = np.array([0.01, -0.01, 0.02, -0.02, 0.001])
    assert look_once([runs, noise, -noise])[0].verdict is Verdict.INCONCLUSIVE


def test_class_differences_are_paired_means() -> None:
    study = example_study()
    found = class_differences(study.rows[2], study.baseline)
    by_hand = [
        np.subtract(run.class_accuracy, other.class_accuracy)
        for run, other in zip(study.rows[2].runs, study.baseline.runs, strict=True)
    ]
    assert [value.mean for value in found if value] == pytest.approx(np.mean(by_hand, axis=0))


def test_of_many_classes_pictures_show_those_that_differ_most() -> None:
    names = tuple(f"class {index}" for index in range(40))
    right, wrong = np.arange(40), np.arange(40)
    wrong[5:30] = np.roll(wrong[5:30], 1)  # the classes from 5 to 29 are all taken for others
    run = replace(example_run(0, 0.5), labels=right, predicted=right, class_count=40)
    moved = replace(run, predicted=wrong)
    rows = (Row("baseline", "", "baseline", (run,)), Row("student", "", "student", (moved,)))
    shown = shown_classes(replace(example_study([]), class_names=names, rows=rows))
    assert len(shown) == 30
    assert set(range(5, 30)) < set(shown)


def test_a_row_without_runs_has_no_numbers() -> None:
    study = example_study()
    row = analyse(with_rows(study, *study.rows, Row("empty", "empty"))).rows[-1]
    assert row.measures["test_accuracy"] is None
    assert row.comparison is not None
    assert row.comparison.sentence() == "no verdict before all 5 planned seeds are done"


def test_points_have_a_sign_unless_they_are_zero() -> None:
    assert (points(0.0123), points(-0.0123), points(-1e-9)) == ("+1.23", "\N{MINUS SIGN}1.23", "0.00")
