"""The looks at a study: they hold the error of the whole study, whatever the user does next.

``python tests/report/test_looks.py`` simulates 10,000 studies of each kind and prints how many are called.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from compare_example import example_study, with_failure
from numpy.typing import NDArray
from scipy import stats

from kd_lightning.compare.results import Study
from kd_lightning.report.analysis import analyse
from kd_lightning.report.comparison import Comparison
from kd_lightning.report.error_control import error_sentence, worse_teachers
from kd_lightning.report.looks import give_verdicts, levels
from kd_lightning.report.statistics import LEVEL, MAX_RUNS, Verdict, paired_test, seeds_needed
from kd_lightning.report.text import to_markdown

CALLED = (Verdict.HELPS, Verdict.HURTS)
DESIGNS = {"one look": (5,), "3-5": (3, 5), "3-5-8": (3, 5, 8), "5-8-12-20": (5, 8, 12, 20)}

Draw = Callable[[int], NDArray[np.float64]]
"""Gives (rows, seeds) differences of new seeds to one baseline, in their standard deviations."""


def draws(generator: np.random.Generator, rows: int, effect: float) -> Draw:
    def draw(seeds: int) -> NDArray[np.float64]:
        baseline = generator.normal(size=(1, seeds))
        differences: NDArray[np.float64] = (generator.normal(size=(rows, seeds)) - baseline) / np.sqrt(2)
        return effect + differences

    return draw


def called(differences: NDArray[np.float64], looks: Sequence[int]) -> bool:
    return any(row.verdict in CALLED for row in give_verdicts(list(differences), looks))


def planned(looks: Sequence[int]) -> Callable[[Draw], bool]:
    """A user who declares the looks and takes the first verdict."""
    return lambda draw: called(draw(looks[-1]), looks)


def raised(draw: Draw) -> bool:
    """A user who plans 3 seeds, and raises them to 5, 8 and 12 while no row is called."""
    differences = draw(12)
    return any(called(differences[:, :seeds], [3]) for seeds in (3, 5, 8, 12))


def advised(draw: Draw) -> bool:
    """A user who follows the advice of a study of 3 seeds: the new study, which has an error of its own."""
    seeds = seeds_needed(paired_test(draw(3)[0]), 1) or MAX_RUNS
    return called(draw(seeds), [seeds])


def share_called(user: Callable[[Draw], bool], studies: int, rows: int = 1, effect: float = 0.0) -> float:
    draw = draws(np.random.default_rng(studies), rows, effect)
    return sum(user(draw) for _ in range(studies)) / studies


USERS = {**{name: planned(looks) for name, looks in DESIGNS.items()}, "raises --seeds": raised, "advised": advised}


@pytest.mark.parametrize("user", USERS)
def test_of_studies_without_effect_at_most_5_percent_are_called_whatever_the_user_does(user: str) -> None:
    studies = 300 if user == "advised" else 1000  # its power calculations take their time
    found = share_called(USERS[user], studies)
    assert found <= LEVEL + 2.5 * np.sqrt(LEVEL * (1 - LEVEL) / studies)
    assert found >= 0.02  # a method that never calls would pass the line above


@pytest.mark.parametrize("looks", [(5,), (3, 5, 8)])
def test_looks_and_rows_together_hold_the_error_too(looks: Sequence[int]) -> None:
    assert 0.01 < share_called(planned(looks), 1000, rows=3) <= LEVEL + 2.5 * np.sqrt(LEVEL * (1 - LEVEL) / 1000)


def test_levels_add_up_rise_and_leave_one_look_all() -> None:
    assert levels([7]) == [LEVEL]
    for looks in DESIGNS.values():
        assert sum(levels(looks)) == pytest.approx(LEVEL)
        assert sorted(levels(looks)) == levels(looks)
    assert levels([5, 10, 20]) == pytest.approx([0.05 / 64, 0.05 * 7 / 64, 0.05 * 56 / 64])


def test_one_look_is_the_t_test_and_later_runs_change_nothing() -> None:
    differences = draws(np.random.default_rng(1), 1, 1.0)(9)
    (found,) = give_verdicts(list(differences), [5])
    assert found.adjusted == pytest.approx(stats.ttest_1samp(differences[0, :5], 0).pvalue)
    assert give_verdicts(list(differences[:, :5]), [5]) == [found]


def test_a_look_calls_at_its_own_level_and_shows_the_interval_of_that_level() -> None:
    looks = [4, 6]
    first, _ = levels(looks)
    values = np.array([1.0, 1.1, 1.3, 0.9, 1.0, 1.2])
    (found,) = give_verdicts([values], looks)
    assert (found.look, found.verdict) == (4, Verdict.HELPS)
    expected = stats.ttest_1samp(values[:4], 0)
    assert found.test.interval == pytest.approx(tuple(expected.confidence_interval(1 - first)))
    assert found.adjusted == pytest.approx(expected.pvalue * LEVEL / first)
    between = np.array([0.3, 1.1, 1.3, 0.5])
    assert first < stats.ttest_1samp(between, 0).pvalue < LEVEL
    (found,) = give_verdicts([np.array([*between, np.nan, np.nan])], looks)
    assert (found.look, found.verdict, found.adjusted) == (4, Verdict.NONE, None)


def test_a_called_row_keeps_its_verdict_and_leaves_the_rest_of_the_error_to_the_others() -> None:
    strong = np.array([1.0, 1.1, 1.05, 0.95, 1.0, -9.0, -9.0, -9.0])
    late = np.array([0.5, -0.5, 0.4, 0.9, 1.0, 0.7, 0.8, 0.6])
    looks = [5, 8]
    kept, other = give_verdicts([strong, late], looks)
    assert (kept.look, kept.verdict) == (5, Verdict.HELPS)
    assert other.look == 8  # by then the only open row
    assert other.adjusted == pytest.approx(stats.ttest_1samp(late, 0).pvalue * LEVEL / levels(looks)[1])


def test_a_missing_run_takes_the_verdict_from_its_row_and_counts_against_the_others() -> None:
    rows = draws(np.random.default_rng(5), 2, 2.0)(5)
    whole = give_verdicts(list(rows), [5])
    rows[1, 2] = np.nan
    first, second = give_verdicts(list(rows), [5])
    assert (second.verdict, second.adjusted) == (Verdict.NONE, None)
    assert first.adjusted is not None
    assert first.adjusted == pytest.approx(2 * (first.test.p_value or 0))
    assert whole[1].verdict is not Verdict.NONE


def only(study: Study, name: str) -> Comparison:
    return next(by for row, by in analyse(study).compared if row.name == name)


def with_plan(study: Study, **changes: object) -> Study:
    plan = replace(study.settings.plan, **changes)  # type: ignore[arg-type]
    return replace(study, settings=replace(study.settings, plan=plan))


def test_seeds_beyond_the_plan_are_exploratory_and_change_no_verdict() -> None:
    plain = only(example_study(), "cosine")
    more = only(with_plan(example_study(seeds=range(8)), looks=(5,)), "cosine")
    assert (more.test, more.adjusted_p, more.verdict) == (plain.test, plain.adjusted_p, plain.verdict)
    assert "with all 8 seeds \N{MINUS SIGN}1.05 (exploratory)" in more.sentence()


def test_a_row_outside_of_the_plan_has_no_verdict_and_does_not_count() -> None:
    study = example_study()
    added = replace(study.rows[2], name="added", exploratory="it was not in the study's plan")
    both = replace(study, rows=(*study.rows, added))
    by = only(both, "added")
    assert by.sentence().startswith("no verdict (it was not in the study's plan): \N{MINUS SIGN}1.02 points")
    assert by.adjusted_p is None
    assert only(both, "cosine") == only(study, "cosine")


def test_a_planned_row_that_is_left_out_later_still_counts() -> None:
    study = example_study()
    without = replace(study, rows=study.rows[:3])
    p = only(study, "cosine").test.p_value
    assert p is not None
    assert only(without, "cosine").adjusted_p == pytest.approx(2 * p)


def test_every_form_reports_how_the_error_rate_is_kept() -> None:
    study = example_study()
    assert error_sentence(study).startswith("Planned before the first run: 5 seeds (0 to 4), looked at once, 2 rows; ")
    assert error_sentence(study) in to_markdown(analyse(study))
    looks = error_sentence(with_plan(study, looks=(3, 5)))
    assert "looked at after 3 and 5 of them at levels of 1.1 and 3.9 %, which add up to 5 %" in looks
    assert "1 degree of freedom" in error_sentence(example_study(seeds=[0, 1]))
    assert "because its folder held" in error_sentence(with_plan(study, exploratory="its folder held runs"))


def test_the_report_names_the_command_of_a_new_study_where_this_one_gives_no_further_verdict() -> None:
    text = to_markdown(analyse(example_study()))
    assert "notebook_table.yaml --output new --first_seed 5 --seeds 54" in text
    assert "--first_seed" not in to_markdown(
        analyse(with_failure(example_study(), "no memory"))
    )  # the same one goes on


def test_a_teacher_worse_than_the_student_without_one_is_reported_in_the_first_lines() -> None:
    study = example_study()
    assert worse_teachers(study) == []
    teacher, baseline, *students = study.rows
    worse = replace(study, rows=(replace(teacher, runs=students[0].runs), baseline, *students))
    (line,) = worse_teachers(worse)
    assert line.startswith(
        "The teacher (teacher, 64.38 %) is worse than the student without a teacher (student, 65.40 %)"
    )
    assert line in to_markdown(analyse(worse)).splitlines()[:5]
    found = replace(students[0], runs=tuple(replace(run, teacher_accuracy=0.6) for run in students[0].runs))
    (line,) = worse_teachers(replace(study, rows=(baseline, found)))
    assert line.startswith("The teacher (that of cosine, 60.00 %)")


if __name__ == "__main__":
    error = 100 * np.sqrt(LEVEL * (1 - LEVEL) / 10_000)
    print(f"called of 10,000 studies without an effect, in per cent (standard error {error:.2f})")
    for name, user in USERS.items():
        print(f"  {name:16} {100 * share_called(user, 10_000):6.2f}")
    for name, looks in DESIGNS.items():
        print(f"  {name:16} {100 * share_called(planned(looks), 10_000, rows=3):6.2f}  with three rows")
    for effect in (1.0, 1.5):
        for seeds in (5, 10):
            plain = share_called(planned([seeds]), 10_000, effect=effect)
            print(f"power at {effect} standard deviations, one look at {seeds} seeds: {100 * plain:.1f}")
        for looks in ((3, 5), (5, 10), (5, 10, 20)):
            print(
                f"power at {effect}, looks at {looks}: {100 * share_called(planned(looks), 10_000, effect=effect):.1f}"
            )
