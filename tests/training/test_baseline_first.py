"""The student without a teacher (baseline), which the summary compares a distilled one with."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from training_example import NO_EXPORT, TINY, fit

from kd_lightning.callbacks.measure_baseline import no_gain_reason
from kd_lightning.cli import main
from kd_lightning.compare.rows import plan_rows
from kd_lightning.compare.study import read_request
from kd_lightning.inference.model_info import ModelInfo

LOGS = Path("lightning_logs")
BASELINE = ("cosine.yaml", NO_EXPORT, "--baseline=student.yaml")


def runs(config: str) -> int:
    return len(list((LOGS / config).glob("version_*")))


def summary(config: str, version: int = 0) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((LOGS / config / f"version_{version}" / "summary.json").read_text())
    return content


def test_the_baseline_is_trained_first_and_shown_beside_the_distilled_student(
    temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(*BASELINE, "--data.batch_size=16")
    out = capsys.readouterr().out
    assert "There is no baseline yet: student.yaml trains it first" in out
    distilled, baseline = summary("cosine"), summary("student")
    assert baseline["data"] == distilled["data"]  # that of this run, changed options and all
    assert baseline["steps"] == distilled["steps"] == 16
    accuracy, baseline_accuracy = distilled["metrics"]["test/accuracy"], baseline["metrics"]["test/accuracy"]
    assert distilled["baseline"] == {
        "name": "LightNN",
        "parameters": baseline["network"]["parameters"],
        "run": "student",
        "epochs": 2.0,
        "limits": "",
        "weights": str(LOGS / "student/version_0/NNLight.pth"),
        "test_accuracy": pytest.approx(baseline_accuracy),
    }
    fit(*BASELINE[:2], "--data.batch_size=16")
    assert (
        summary("cosine", 1)["metrics"]["train/loss"] == distilled["metrics"]["train/loss"]
    )  # as if no other run came first
    text = (LOGS / "cosine/version_0/summary.txt").read_text()
    assert "  baseline  the student without a teacher: LightNN (" in text
    assert f"by student for 2 epochs: {100 * baseline_accuracy:.2f} % on the test images" in text
    gain = f"{100 * (accuracy - baseline_accuracy):+.2f} points over the student without a teacher, in one run each"
    assert f"  gain      {gain}" in text


def test_a_run_with_the_same_settings_is_reused_and_another_one_is_not(temp_folder: Path) -> None:
    fit("student.yaml", NO_EXPORT, "--trainer.max_epochs=1")
    fit(*BASELINE)
    assert runs("student") == 2  # one epoch is not two
    fit(*BASELINE, "--trainer.enable_progress_bar=true")
    assert runs("student") == 2
    assert summary("cosine", 1)["baseline"] == summary("cosine")["baseline"]
    Path(LOGS, "student/version_1/config.yaml").write_text("{")
    fit(*BASELINE, "--seed_everything=1")
    assert runs("student") == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--baseline=studnet.yaml"], "there is no config 'studnet.yaml'"),
        (["--baseline=notebook_table.yaml"], "in notebook_table.yaml, which trains the student without a teacher, "),
    ],
)
def test_a_config_that_cannot_train_it_is_refused_before_the_teacher_is_trained(
    options: list[str], words: str, temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "--config=cosine.yaml", *TINY, NO_EXPORT, *options]) == 2
    assert words in capsys.readouterr().err
    assert not LOGS.exists()


def test_there_is_no_gain_between_two_networks_and_the_settings_that_another_task_drops_are_printed(
    temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("other.yaml").write_text("model: {class_path: Classifier, init_args: {network: DeepNN}}")
    fit(*BASELINE, "--config=other.yaml")
    dropped = "whose teacher, ce_loss_weight, hidden_rep_loss_weight are dropped.\n"
    assert f"Settings: Classifier replaces the task of cosine.yaml, {dropped}" in capsys.readouterr().out
    text = (LOGS / "cosine/version_0/summary.txt").read_text()
    assert "gain      not given: the student without a teacher is LightNN, and this run's network DeepNN\n" in text
    assert "points over" not in text
    assert summary("cosine")["no_gain"] in text
    assert summary("cosine")["baseline"]["test_accuracy"] is not None


SAME = ModelInfo("a.Net", {"depth": 8, "width": 2}, ("a", "b"), (0.5,), (0.5,), 8, "Tiny", 0.5, 2.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"accuracy": 0.9, "mean": (0.4,)}, ""),
        ({"network": "b.Other"}, "the student without a teacher is Net, and this run's network Other"),
        (
            {"arguments": {"depth": 8, "width": 4}},
            "the student without a teacher is Net(width=2), and this run's network Net(width=4)",
        ),
        ({"data": "Folder"}, "the student without a teacher was trained on other data, Tiny"),
        ({"class_names": ("a", "c")}, "the student without a teacher was trained on other data, Tiny"),
        ({"epochs": 1.0}, "the student without a teacher was trained for 2 epochs, and this run for 1 epoch"),
        (
            {"limits": "max_time"},
            "the student without a teacher was trained for 2 epochs, and this run for 2 epochs (cut short by max_time)",
        ),
    ],
)
def test_a_gain_is_given_only_for_the_same_network_data_and_length(change: dict[str, Any], words: str) -> None:
    assert no_gain_reason(replace(SAME, **change), SAME) == words


def test_neither_a_smoke_test_nor_a_study_trains_a_baseline(temp_folder: Path) -> None:
    fit(*BASELINE, "--trainer.fast_dev_run=true")
    config = Path(__file__).parents[2] / "configs/cosine.yaml"
    Path("both.yaml").write_text(config.read_text() + "baseline: student.yaml\n")
    Path("study.yaml").write_text("{teacher: {config: teacher.yaml}, baseline: {config: both.yaml}, compared: []}")
    _, both = plan_rows(read_request(["--config=study.yaml", *TINY[:4]]))
    assert both.learns
    assert both.built.own.baseline is None
    assert runs("student") == 0
