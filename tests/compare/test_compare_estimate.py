"""A study estimates beforehand how long it takes."""

import itertools
from pathlib import Path

import pytest
import yaml

from kd_lightning.compare import estimate
from kd_lightning.compare.estimate import Estimate, estimate_rows, expectation
from kd_lightning.compare.rows import PlannedRow, plan_rows
from kd_lightning.compare.study import read_request

TINY = ["--data=tiny.TinyDataModule", "--data.batch_size=32", "--trainer.max_epochs=10", "--trainer.accelerator=cpu"]


def planned(*options: str, **study: object) -> list[PlannedRow]:
    rows = {"baseline": {"config": "student.yaml"}, "compared": [{"config": "cosine.yaml"}]}
    Path("study.yaml").write_text(yaml.safe_dump({**rows, "teacher": {"config": "teacher.yaml"}, **study}))
    rows_planned = plan_rows(read_request(["--config=study.yaml", *TINY, *options]))
    for row in rows_planned:
        row.data.prepare_data()
    return rows_planned


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each look at the clock take a second."""
    seconds = itertools.count()
    monkeypatch.setattr(estimate, "perf_counter", lambda: float(next(seconds)))


@pytest.mark.usefixtures("clock")
def test_a_run_takes_its_steps_and_a_cached_teacher_runs_once(temp_folder: Path) -> None:
    # 114 images train in 4 batches, 6 validate and 120 are tested: one second each for a step and a forward pass
    rest = (120 + 10 * 6) / 32
    found = estimate_rows(planned(), threads=1)
    assert found["teacher"] == Estimate(40 + rest)
    assert found["student"] == Estimate(40 + rest)
    assert found["cosine"].run == rest  # all of the step was the teacher's
    assert found["cosine"].caching == 114 / 32
    live = estimate_rows(planned("--data.augment=[RandomCrop]"), threads=1)["cosine"]
    assert live == Estimate(40 + rest)
    assert not Path("lightning_logs").exists()


def test_a_row_that_fails_has_no_estimate_and_callbacks_do_not_run(temp_folder: Path) -> None:
    trouble = {"class_path": "test_compare_runner.Trouble", "init_args": {"kind": "fail"}}
    Path("fail").touch()
    rows = planned(baseline={"config": "student.yaml", "options": {"trainer.callbacks": [trouble]}})
    assert {"teacher", "student", "cosine"} == set(estimate_rows(rows, threads=1))
    endless = planned(
        baseline={"config": "student.yaml", "options": {"trainer.max_epochs": -1, "trainer.max_time": "00:00:00:01"}}
    )
    assert set(estimate_rows(endless, threads=1)) == {"teacher", "cosine"}


def test_of_rows_that_differ_only_in_fractions_one_is_timed(temp_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"rate": {"model.optimizer.lr": 0.5}, "batch": {"data.batch_size": 8}}
    rows = planned(
        compared=[{"config": "student.yaml", "name": name, "options": values} for name, values in options.items()],
        teacher=None,
    )
    timed: list[str] = []

    def estimated(row: PlannedRow) -> Estimate:
        timed.append(row.title)
        return Estimate(float(len(timed)))

    monkeypatch.setattr(estimate, "_estimate", estimated)
    found = estimate_rows(rows, threads=1)
    assert timed == ["student", "batch"]
    assert found["rate"] == found["student"] == Estimate(1.0)


def test_the_missing_runs_are_described_in_words() -> None:
    rows = {"a": Estimate(60.0), "b": Estimate(300.0, 120.0), "c": Estimate(300.0, 120.0)}
    assert expectation(rows, [], 1, 2) == "All runs are finished."
    assert "4 runs to do, which takes about 7 min here" in expectation(rows, ["a", "a", "b", "c"], 1, 2)
    assert "about 10 min here" in expectation(rows, ["a", "a", "b", "c"], 4, 2)  # four teachers, each computed once
    assert "2 runs to do, which takes about 2 min here" in expectation(rows, ["a", "unknown"], 1, 1)
    assert expectation({}, ["unknown"], 1, 1) == "1 run to do; time left unknown until the first one ends."
