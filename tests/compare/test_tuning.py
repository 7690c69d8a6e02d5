"""Rows whose setting is chosen: on validation images of other seeds, once, and before anything else is looked at.

``python tests/compare/test_tuning.py`` simulates 10,000 studies without an effect and prints how many are called.
"""

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tiny import TinyDataModule

from kd_lightning.cli import main
from kd_lightning.commands import compare as command
from kd_lightning.compare import rows, search
from kd_lightning.compare.choice import Choice, Tried
from kd_lightning.compare.pool import Pool
from kd_lightning.compare.results import Curves, Run, Study
from kd_lightning.compare.row_config import RowConfig, Search, setting_text
from kd_lightning.compare.store import read_run, weights_file, write_run
from kd_lightning.compare.worker import Job, run_job
from kd_lightning.errors import UserError
from kd_lightning.report import figures
from kd_lightning.report.analysis import NOTHING, Analysis, analyse
from kd_lightning.report.latex import to_latex
from kd_lightning.report.looks import give_verdicts
from kd_lightning.report.page import to_page
from kd_lightning.report.statistics import LEVEL, Verdict
from kd_lightning.report.text import choices_to_csv, to_csv, to_markdown
from kd_lightning.training.cli import run

TINY = ["--data=tiny.TinyDataModule", "--data.val_size=0.3", "--trainer.accelerator=cpu"]
GRID = {"model.optimizer.lr": [0.1, 0.2, 0.3]}


class MadeUp(Pool):
    """Replaces the pool: a run's accuracy is its learning rate; one with a rate in ``failing`` fails."""

    started: list[Job]
    studies: list[Study]
    failing: set[float]

    def __init__(self, size: int, threads: int) -> None:
        super().__init__(size, threads)
        self.ended: list[tuple[Job, str | None]] = []

    def start(self, job: Job) -> None:
        self.started.append(job)
        self.ended.append((job, "diverged" if rate(job) in self.failing else None))
        if rate(job) in self.failing:
            return
        job.result.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"weight": torch.tensor([rate(job), float(job.seed)])}, weights_file(job.result))
        labels = np.zeros(0 if job.tuning else 10, np.int64)
        predicted = (np.arange(len(labels)) >= 10 * rate(job) + job.seed % 2).astype(np.int64)
        curves = Curves((1,), val_accuracy=(rate(job),)) if job.tuning else Curves((1,))
        write_run(Run(job.seed, 0.0, 0.0, labels, predicted, 4, 1, 1, 0.0, curves, made_by="test"), job.result)

    def wait(self, seconds: float) -> list[tuple[Job, str | None]]:
        ended, self.ended = self.ended, []
        return ended

    @property
    def running(self) -> list[Job]:
        return [job for job, _ in self.ended]


def rate(job: Job) -> float:
    return float([word for word in job.args if word.startswith("--model.optimizer.lr=")][-1].partition("=")[2])


def keep(analysis: Analysis, folder: Path) -> list[Path]:
    MadeUp.studies.append(analysis.study)
    return [folder / "report.html"]


BUILT: dict[Any, Any] = {}


def built(args: Sequence[str], kind: Any, folder: Path, learns: bool) -> Any:
    """Build each row once for all tests: to parse it takes longer than all else."""
    key = (*args, learns)
    if key not in BUILT:
        BUILT[key] = run(args, kind, folder=folder, learns=learns)
    return BUILT[key]


@pytest.fixture
def jobs(temp_folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Make up all runs; return those that were done."""
    MadeUp.started, MadeUp.studies, MadeUp.failing = [], [], set()
    monkeypatch.setattr(command, "Pool", MadeUp)
    monkeypatch.setattr(command, "estimate_rows", lambda *_: {})
    monkeypatch.setattr(rows, "run", built)
    monkeypatch.setattr(rows, "code_digests", lambda configs, _: dict.fromkeys(configs, ""))
    for name, plot in figures.PLOTS.items():  # these have tests of their own
        monkeypatch.setitem(figures.PLOTS, name, replace(plot, panels=lambda _: []))
    monkeypatch.setattr(command, "write_report", keep)
    return MadeUp.started


def compare(row: dict[str, Any], *options: str, output: str = "out", status: int = 0, **study: Any) -> Study:
    baseline = {"config": "student.yaml", "options": {"model.optimizer.lr": 0.2}}
    compared = [{"config": "student.yaml", "name": "tuned", **row}]
    Path("study.yaml").write_text(
        yaml.safe_dump({"onnx": False, "baseline": baseline, "compared": compared, **study}, sort_keys=False)
    )
    args = ["compare", "--config=study.yaml", f"--output={output}", "--seeds=3", *TINY, *options]
    assert main(args) == status
    return MadeUp.studies[-1]


def choice(study: Study) -> Choice:
    found = study.rows[-1].choice
    assert found is not None
    return found


def chosen(study: Study) -> float:
    return float(choice(study).best.setting["model.optimizer.lr"])


def test_the_best_setting_is_chosen_on_other_seeds_and_alone_compared(jobs: list[Job]) -> None:
    study = compare({"grid": GRID}, "--looks=[3,5]", "--seeds=5")
    tuning = [job for job in jobs if job.tuning]
    assert sorted((rate(job), job.seed) for job in tuning) == [
        (value, seed) for value in (0.1, 0.2, 0.3) for seed in (1_000_000, 1_000_001)
    ]
    assert jobs[: len(tuning)] == tuning
    assert {(job.row, rate(job), job.seed) for job in jobs if job.row == "tuned"} == {
        ("tuned", 0.3, n) for n in range(5)
    }
    assert chosen(study) == 0.3
    assert {run.seed for row in study.rows for run in row.runs} == set(range(5))
    assert list(study.settings.plan.rows) == ["tuned"]


def test_a_choice_stays_when_the_study_is_resumed_and_with_more_seeds(jobs: list[Job]) -> None:
    MadeUp.failing = {0.3}
    first = compare({"grid": GRID}, status=0)
    assert (chosen(first), choice(first).tried[2]) == (0.2, Tried({"model.optimizer.lr": 0.3}, failure="diverged"))
    MadeUp.failing = set()
    jobs.clear()
    assert choice(compare({"grid": GRID})) == choice(first)  # it would be 0.3 now
    assert jobs == []
    more = compare({"grid": GRID}, "--seeds=4")
    assert [(job.row, job.seed) for job in jobs] == [("student", 3)]  # the row with the same config needs no run
    assert (chosen(more), more.settings.seconds) == (0.2, None)


def test_an_interrupted_choice_goes_on_and_equal_settings_give_the_first(jobs: list[Job]) -> None:
    MadeUp.failing = {0.1, 0.2, 0.3}
    (Path() / "study.yaml").touch()
    with pytest.raises(IndexError):  # no report
        compare({"grid": GRID}, status=2)
    MadeUp.failing = set()
    jobs.clear()
    same = {"model.optimizer.lr": [0.1, 0.3], "data.batch_size": [16, 32]}
    study = compare({"grid": same}, output="other")
    assert choice(study).best.text == "lr 0.3, batch_size 16"


def test_a_changed_grid_has_no_verdict_and_keeps_the_planned_choice(jobs: list[Job]) -> None:
    planned = compare({"grid": GRID})
    changed = compare({"grid": {"model.optimizer.lr": [0.1, 0.4]}})
    ((_, by),) = analyse(changed).compared
    assert by.outcome.startswith("no verdict (it is not what was planned")
    assert chosen(changed) == 0.4
    jobs.clear()
    again = compare({"grid": GRID})
    assert (choice(again), jobs) == (choice(planned), [])
    assert analyse(again).compared[0][1].verdict is not Verdict.NONE


def test_results_that_were_seen_elsewhere_support_no_verdict(jobs: list[Job]) -> None:
    compare({"options": {"model.optimizer.lr": 0.3}}, output="plain")
    assert compare({"grid": GRID}, output="tuned").settings.plan.exploratory  # one of its settings was seen
    compare({"grid": GRID}, "--first_seed=7", output="fresh")
    copied = {"options": {"model.optimizer.lr": 0.3}}
    assert compare(copied, "--first_seed=8", output="copied").settings.plan.exploratory
    assert compare(copied, "--first_seed=1000007", output="by_its_tuning").settings.plan.exploratory
    assert not compare(copied, "--first_seed=20", output="new").settings.plan.exploratory


@pytest.mark.parametrize("teachers", ["one", "per_seed"])
def test_settings_learn_from_a_teacher_of_their_seed_or_from_the_one(jobs: list[Job], teachers: str) -> None:
    teacher = {"config": "teacher.yaml", "options": {"model.optimizer.lr": 0.5}}
    grid = {"model.optimizer.lr": [0.1, 0.3]}
    study = compare({"config": "cosine.yaml", "grid": grid}, f"--teachers={teachers}", teacher=teacher)
    seeds = [0] if teachers == "one" else [0, 1, 2, 1_000_000, 1_000_001]
    assert sorted(job.seed for job in jobs if job.row == "teacher") == seeds
    assert not any(job.tuning for job in jobs if job.row == "teacher")
    weights = {job.seed: word for job in jobs for word in job.args if job.tuning and ".teacher.weights=" in word}
    assert len(set(weights.values())) == (1 if teachers == "one" else 2)
    assert [len(row.runs) for row in study.rows] == [len(seeds[:3]), 3, 3]


def test_a_baseline_is_tuned_like_a_row_and_less_tuning_of_it_is_named(jobs: list[Job]) -> None:
    baseline = {"config": "student.yaml", "name": "plain", "grid": GRID}
    study = compare({"grid": GRID, "options": {"model.network.dropout": 0.5}}, baseline=baseline)
    assert [row.choice and len(row.choice.tried) for row in study.rows] == [3, 3]
    note = "tuned is the best of 3 settings, but the baseline (student) has only one"
    assert note not in to_markdown(analyse(study))
    uneven = compare({"grid": GRID}, output="uneven")
    for form in (to_markdown, to_page):
        assert note in form(analyse(uneven))


def test_the_report_names_the_choice_in_every_form(jobs: list[Job]) -> None:
    MadeUp.failing = {0.1}
    analysis = analyse(compare({"grid": GRID}))
    line = "tuned: lr 0.3, the best of 3 settings, of which 1 failed, on validation images (30.00 %, mean of 2 seeds)."
    for text in (to_markdown(analysis), to_page(analysis), to_latex(analysis).replace(r"\%", "%")):
        assert line in text
        assert "the test images, have no part in the choice" in text or r"\toprule" in text
    assert f"| tuned | lr 0.1 | {NOTHING} | {NOTHING} | diverged |" in to_markdown(analysis)
    lines = list(csv.DictReader(choices_to_csv(analysis).splitlines()))
    assert [(of["setting"], of["validation_accuracy"], of["chosen"]) for of in lines][1:] == [
        ("lr 0.2", "0.2", "False"),
        ("lr 0.3", "0.3", "True"),
    ]
    (of_row,) = [of for of in csv.DictReader(to_csv(analysis).splitlines()) if of["row"] == "tuned"]
    assert (of_row["setting"], of_row["settings_tried"]) == ("lr 0.3", "3")
    untuned = analyse(replace(analysis.study, rows=tuple(replace(row, choice=None) for row in analysis.study.rows)))
    assert choices_to_csv(untuned) == ""
    assert "Choice of settings" not in to_markdown(untuned) + to_page(untuned)


def test_optuna_proposes_the_same_settings_again_when_the_study_is_resumed(
    jobs: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna")
    space = {"model.optimizer.lr": {"low": 0.01, "high": 0.9, "log": True}, "model.network.dropout": [0.1, 0.2]}
    row = {"search": {"space": space, "trials": 6}}
    with monkeypatch.context() as stopping:
        stopping.setattr(search, "AT_ONCE", 2)
        whole = choice(compare(row, output="whole"))
        trained = len(jobs)
        stopping.setattr(MadeUp, "start", stop_after(8))
        with pytest.raises(KeyboardInterrupt):
            compare(row)
    jobs.clear()
    with monkeypatch.context() as resuming:
        resuming.setattr(search, "AT_ONCE", 2)
        resumed = choice(compare(row))
    assert (resumed.tried, len(jobs)) == (whole.tried, trained - 8)
    assert chosen(MadeUp.studies[-1]) == max(of.setting["model.optimizer.lr"] for of in resumed.tried)
    assert len(Path("out/search/tuned.log").read_text().splitlines()) > 6


def stop_after(number: int) -> Callable[[Pool, Job], None]:
    start, done = MadeUp.start, list[Job]()

    def stopped(pool: Pool, job: Job) -> None:
        if len(done) == number:
            raise KeyboardInterrupt
        done.append(job)
        start(pool, job)  # type: ignore[arg-type]

    return stopped


MISTAKES: dict[str, tuple[dict[str, Any], str, str]] = {
    "no validation images": ({"grid": GRID}, "--data.val_size=0", "'tuned 1: lr 0.1' is one of several settings"),
    "other ones": (
        {"grid": {"data.val_size": [0.1, 0.2]}},
        "",
        "has other validation images than 'tuned 1",
    ),
    "an empty grid": ({"grid": {"model.optimizer.lr": []}}, "", "the grid of the row 'tuned' has 0 settings"),
    "no option": ({"grid": {"model.optimizer.rate": [1]}}, "", "in the row 'tuned 1: rate 1', "),
    "no list": ({"grid": {"model.optimizer.lr": 1}}, "", "compared"),
    "both": ({"grid": GRID, "search": {"space": GRID}}, "", "has both a grid and a search"),
    "a falling interval": (
        {"search": {"space": {"model.optimizer.lr": {"low": 1, "high": 0}}}},
        "",
        "`search` has",
    ),
    "no trials": ({"search": {"space": GRID, "trials": 0}}, "", "`search` tries 0 settings"),
    "no tuning seeds": ({"grid": GRID}, "--tuning_seeds=0", "--tuning_seeds is 0"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_in_one_sentence(
    mistake: str, jobs: list[Job], capsys: pytest.CaptureFixture[str]
) -> None:
    row, option, expected = MISTAKES[mistake]
    with pytest.raises(IndexError):  # no report
        compare(row, *filter(None, [option]), status=2)
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1
    assert jobs == []


def test_without_optuna_a_search_says_how_to_install_it(
    jobs: list[Job], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(IndexError):
        compare({"search": {"space": GRID}}, status=2)
    assert "needs Optuna; install it by" in capsys.readouterr().err


def test_a_teacher_is_not_chosen() -> None:
    from kd_lightning.compare.study import StudyConfig

    with pytest.raises(UserError, match="the study's teacher has a grid"):
        StudyConfig(RowConfig("student.yaml"), [], teacher=RowConfig("teacher.yaml", grid={"a": [1]}))


def test_settings_are_named_by_the_ends_of_their_options() -> None:
    assert (
        setting_text({"model.losses.kd.weight": 0.9, "model.losses.kd.temperature": 4}) == "weight 0.9, temperature 4"
    )
    assert setting_text({"model.losses.a.weight": 1, "model.losses.b.weight": 2}) == "a.weight 1, b.weight 2"
    assert Search({"a": [1, 2], "b": {"low": 1, "high": 8}}).ends == [{"a": 1, "b": 1}, {"a": 2, "b": 8}]


class NoTest(TinyDataModule):
    """Fails where its test images are looked at."""

    def test_dataloader(self) -> Any:
        raise AssertionError("test images in a tuning run")


def test_a_tuning_run_measures_its_last_weights_on_validation_images_only(temp_folder: Path) -> None:
    args = ["fit", "--config=student.yaml", "--data=test_tuning.NoTest", *TINY[1:], "--trainer.max_steps=3"]
    args += ["--data.batch_size=16", "--model.optimizer.lr=1e-2", "--trainer.enable_model_summary=false"]
    run_job(Job("row", 1, args, Path("logs/row/seed_1"), Path("runs/tuning_a.json"), {"lr": 1e-2}, tuning=True))
    found = read_run(Path("runs/tuning_a.json"))
    assert len(found.labels) == 0
    (accuracy,) = found.curves.val_accuracy  # training ended before the epoch did
    assert round(36 * accuracy, 4) == int(round(36 * accuracy, 4))
    assert json.loads(Path("runs/tuning_a.json").read_text())["test_accuracy"] is None


def share_called(studies: int, honest: bool, settings: int = 8, seeds: int = 5) -> float:
    """Return the share of studies that call a row without an effect, the best of several settings.

    Args:
        honest: Whether the setting is chosen on the validation images of two other seeds, as here; otherwise on the
            test images of the seeds that are compared.
    """
    generator, called = np.random.default_rng(studies), 0
    for _ in range(studies):
        test = generator.normal(size=(settings, seeds))
        # settings do not differ in truth, but by their runs, and by the same validation images in all of them
        validation = generator.normal(size=(settings, 2)) + generator.normal(size=(settings, 1))
        best = int((validation if honest else test).mean(1).argmax())
        (found,) = give_verdicts([test[best] - generator.normal(size=seeds)], [seeds])
        called += found.verdict in (Verdict.HELPS, Verdict.HURTS)
    return called / studies


def test_a_chosen_setting_keeps_the_rate_of_false_verdicts() -> None:
    assert 0.02 < share_called(1000, honest=True) <= LEVEL + 2.5 * np.sqrt(LEVEL * (1 - LEVEL) / 1000)
    assert share_called(1000, honest=False) > 0.07  # what the choice on other seeds prevents


if __name__ == "__main__":
    print(
        f"called of 10,000 studies without an effect, the best of 8 settings: {100 * share_called(10_000, True):.2f} %"
    )
    print(f"where the test images choose it: {100 * share_called(10_000, False):.2f} %")
