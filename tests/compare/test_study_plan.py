"""The plan of a study: made before its first run, read by later starts, and not changed by results."""

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from kd_lightning.compare.row_config import RowConfig
from kd_lightning.compare.study import StudyConfig, read_request
from kd_lightning.compare.study_plan import StudyPlan, ensure_plan, new_study_command, next_study
from kd_lightning.errors import UserError

ROWS = {"cosine": "1", "regress": "2"}


def study(**options: Any) -> StudyConfig:
    rows = [RowConfig("cosine.yaml"), RowConfig("regress.yaml")]
    return StudyConfig(RowConfig("student.yaml"), rows, **options)


def finish_a_run(folder: Path) -> None:
    (folder / "runs").mkdir(exist_ok=True)
    (folder / "runs" / "key.json").touch()


def planned(folder: Path, rows: dict[str, str] = ROWS, **options: Any) -> StudyPlan:
    folder.mkdir(exist_ok=True)
    plan = ensure_plan(study(**options), rows, folder)
    finish_a_run(folder)
    return plan


def test_the_first_start_makes_the_plan_and_later_ones_read_it(tmp_path: Path) -> None:
    assert planned(tmp_path / "a") == StudyPlan(0, (5,), ROWS, 5)
    assert json.loads((tmp_path / "a" / "plan.json").read_text())["looks"] == [5]
    assert planned(tmp_path / "a", seeds=8) == StudyPlan(0, (5,), ROWS, 8)  # more runs, and the same plan
    assert planned(tmp_path / "a", seeds=2) == StudyPlan(0, (5,), ROWS, 8)
    assert planned(tmp_path / "b", looks=[3, 6], first_seed=9) == StudyPlan(9, (3, 6), ROWS, 6)
    assert planned(tmp_path / "b").seeds == range(9, 15)


@pytest.mark.parametrize(("option", "value"), [("first_seed", 5), ("looks", [3, 5])])
def test_another_first_seed_and_other_looks_than_planned_are_refused(option: str, value: Any, tmp_path: Path) -> None:
    planned(tmp_path / "a")
    with pytest.raises(UserError, match=rf"--{option} is .* planned with .*--output .*a_2 --first_seed 5"):
        planned(tmp_path / "a", **{option: value})


def test_a_plan_binds_from_the_first_finished_run_on(tmp_path: Path) -> None:
    assert ensure_plan(study(seeds=5), ROWS, tmp_path).looks == (5,)
    assert ensure_plan(study(seeds=8), {"cosine": "fixed"}, tmp_path).rows == {"cosine": "fixed"}
    finish_a_run(tmp_path)
    plan = ensure_plan(study(seeds=9), ROWS, tmp_path)
    assert (plan.looks, plan.rows) == ((8,), {"cosine": "fixed"})


def test_a_row_that_was_added_or_changed_after_the_plan_is_exploratory(tmp_path: Path) -> None:
    plan = planned(tmp_path / "a")
    assert plan.reason("cosine", "1") == ""
    assert plan.reason("added", "3") == "it was not in the study's plan"
    assert plan.reason("cosine", "changed").startswith("it is not what was planned")


def test_runs_from_before_there_was_a_plan_support_no_verdict(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    finish_a_run(tmp_path / "a")
    plan = planned(tmp_path / "a", seeds=5)
    assert plan.reason("cosine", "1") == plan.exploratory == "its folder held finished runs before there was a plan"
    assert planned(tmp_path / "a", seeds=5).exploratory  # for good


def test_seeds_that_a_study_beside_it_has_shown_of_the_same_rows_support_no_verdict(tmp_path: Path) -> None:
    planned(tmp_path / "many", {**ROWS, "third": "3"}, seeds=3)
    best = planned(tmp_path / "best", {"SRD": "2"}, seeds=5)  # the best row of it, on the seeds that chose it
    assert best.exploratory == (f"some of its results were there before its plan, in {tmp_path / 'many'}")
    assert not planned(tmp_path / "new", {"SRD": "2"}, seeds=5, first_seed=5).exploratory
    assert not planned(tmp_path / "others", {"other": "4"}, seeds=5).exploratory
    assert not planned(tmp_path / "again", {**ROWS, "third": "3"}, seeds=3).exploratory  # the same study again


def test_a_new_study_gets_seeds_that_were_never_used_and_a_folder_of_its_own(tmp_path: Path) -> None:
    plan = planned(tmp_path / "a", seeds=7)
    assert next_study(plan, tmp_path / "a") == (7, tmp_path / "a_2")
    planned(tmp_path / "a_2", first_seed=7, seeds=10)
    assert next_study(plan, tmp_path / "a") == (17, tmp_path / "a_3")
    args = shlex.split("compare --config a.yaml --seeds=3 --trainer.max_epochs 2 --output a --looks [3]")
    words = shlex.split(new_study_command(args, plan, tmp_path / "a"))
    kept = ["--config", "a.yaml", "--trainer.max_epochs", "2"]
    assert words == ["kd-lightning", "compare", *kept, "--output", str(tmp_path / "a_3"), "--first_seed", "17"]
    request = read_request(["--config=levers.yaml", "--looks=[3, 5]", *words[6:], "--looks", "null", "--seeds", "9"])
    assert (request.study.planned_looks, request.study.first_seed) == ((9,), 17)


def test_a_plan_that_is_damaged_or_of_an_older_version_is_answered_in_one_sentence(tmp_path: Path) -> None:
    planned(tmp_path / "a")
    whole = (tmp_path / "a" / "plan.json").read_text()
    older = json.dumps({name: value for name, value in json.loads(whole).items() if name != "format"})
    for text in ("", "[1]", whole[:40], whole.replace("5", '"x"'), whole.replace("[\n  5\n ]", "[5, 3]"), older):
        (tmp_path / "a" / "plan.json").write_text(text)
        with pytest.raises(UserError, match="is not the plan of a study"):
            planned(tmp_path / "a")


def test_looks_must_rise_from_three_seeds() -> None:
    for looks in ([], [2, 5], [5, 5]):
        with pytest.raises(UserError, match="--looks is"):
            study(looks=looks)


def test_the_number_of_seeds_is_the_last_look() -> None:
    assert study(looks=[3, 5]).planned_looks == (3, 5)
    assert (study().planned_looks, study(seeds=4).planned_looks) == ((5,), (4,))
    with pytest.raises(UserError, match="--seeds is 3, but the last of --looks is 5"):
        assert study(looks=[3, 5], seeds=3).planned_looks


def test_a_study_does_its_looks_one_after_another_and_anything_else_at_once() -> None:
    plan = StudyPlan(2, (3, 5), ROWS)
    assert plan.stages(None) == [range(2, 5), range(2, 7)]
    assert plan.stages(5) == plan.stages(None)
    assert plan.stages(9) == [range(2, 11)]
    assert plan.stages(1) == [range(2, 3)]
    assert StudyPlan(0, (3, 5), ROWS, exploratory="of something").stages(None) == [range(5)]
