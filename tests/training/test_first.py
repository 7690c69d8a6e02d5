"""What a run needs first, its teacher and its baseline: which run serves, and what is checked before one is trained."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from training_example import CONFIG_FOLDER, NO_EXPORT, TINY, fit

from kd_lightning.callbacks.measure_baseline import no_gain_reason
from kd_lightning.cli import main
from kd_lightning.compare.rows import plan_rows
from kd_lightning.compare.study import read_request
from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.training.cli import run

LOGS = Path("lightning_logs")
DISTILL = ["fit", "--config=cosine.yaml", *TINY, NO_EXPORT]
BASELINE = ("cosine.yaml", NO_EXPORT, "--baseline=student.yaml")
TEACHER = "lightning_logs/teacher/version_{}/NNDeep.pth"
NOT_REUSED = f"Teacher: {TEACHER.format(0)} is not reused: it was trained with --"


def runs(config: str) -> int:
    return len(list((LOGS / config).glob("version_*")))


def summary(config: str, version: int = 0) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((LOGS / config / f"version_{version}" / "summary.json").read_text())
    return content


def change(config: str, old: str, new: str) -> None:
    text = Path(config).read_text()
    assert old in text
    Path(config).write_text(text.replace(old, new))


# --- what is refused before anything is trained -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["--model.teacher.weights=no/net.pth"],
            "--model.teacher.weights is no/net.pth, which is not a file; leave it out, and fit trains the teacher "
            "first, or train it with `kd-lightning fit --config teacher.yaml`.",
        ),
        (["--model.teacher.network=LightNN"], "the teacher is to be LightNN(), but teacher.yaml trains DeepNN(); name"),
        (["--model.teacher.config=loop.yaml"], "loop.yaml trains a teacher with loop.yaml first, without end"),
        (["--baseline=studnet.yaml"], "there is no config 'studnet.yaml'"),
        (["--baseline=losses.yaml"], "in losses.yaml, which trains the student without a teacher, "),
        (["--model.network.num_classes=7"], "--model.network.num_classes is 7, but the data has 4"),
        (["--model.teacher.network.image_size=64"], "--model.teacher.network.image_size is 64, but the data has 8"),
        (
            [
                "--model.lr_scheduler=torch.optim.lr_scheduler.OneCycleLR",
                *("--model.lr_scheduler.max_lr=0.1", "--model.lr_scheduler.total_steps=3"),
            ],
            "OneCycleLR ends after 3 steps, but this run has 8",
        ),
        (
            ["--model=Distill", "--model.losses={kd: plain_module.ImageByImage}"],
            "the loss 'kd' (ImageByImage) gives a tensor of shape (32,), but must give a scalar",
        ),
        (
            [
                *("--model=Distill", "--model.losses={maps: FeatureRegression}"),
                *("--model.losses.maps.student=featurs", "--model.losses.maps.teacher=features"),
            ],
            "the loss 'maps': LightNN has no layer 'featurs'; name one of its layers, such as features, ",
        ),
    ],
)
def test_a_mistake_is_refused_before_a_teacher_is_trained(
    options: list[str], words: str, temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loop = (CONFIG_FOLDER / "cosine.yaml").read_text().replace("network: LightNN", "network: DeepNN")
    Path("loop.yaml").write_text(loop.replace("config: teacher.yaml", "config: loop.yaml"))
    assert main([*DISTILL, *options]) == 2
    printed = capsys.readouterr()
    assert words in printed.err
    assert printed.err.count("\n") == 1
    assert "teacher" not in printed.out.lower()
    assert not LOGS.exists()


# --- which teacher is taken -------------------------------------------------------------------------------------------


def test_a_teacher_is_trained_first_on_new_views_and_taken_as_it_is_the_next_time(
    plain_teacher: None, capsys: pytest.CaptureFixture[str]
) -> None:
    options = (NO_EXPORT, "--data.count=60", "--data.augment=[RandomCrop]", "--data.views=2")
    first = fit("cosine.yaml", *options)
    assert first.model.teacher_cache is not None
    teacher = Path(TEACHER.format(0))
    out = capsys.readouterr().out
    assert "There is no teacher yet: teacher.yaml trains it first and writes it to lightning_logs/teacher/vers" in out
    assert re.search(rf"Teacher: {teacher} \(DeepNN trained on Tiny for 2 epochs, test accuracy [\d.]+ %\)", out)
    of_teacher = summary("teacher")
    assert (of_teacher["epochs"], of_teacher["data"]["test_images"]) == (2, 60)  # the overrides reached it
    assert of_teacher["data"]["views"] is None
    assert yaml.safe_load(teacher.with_name("config.yaml").read_text())["data"]["init_args"]["augment"]
    before = teacher.read_bytes()

    second = fit("cosine.yaml", *options)
    assert "There is no teacher yet" not in capsys.readouterr().out
    assert (runs("teacher"), teacher.read_bytes()) == (1, before)
    for mine, other in zip(first.model.network.parameters(), second.model.network.parameters(), strict=True):
        assert torch.equal(mine, other)  # whether the teacher was trained just now or before makes no difference
    assert summary("cosine")["metrics"]["train/loss"] == summary("cosine", 1)["metrics"]["train/loss"]


def teachers(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
    """Distill with options; return how many runs of a teacher there are now, and what was printed."""
    fit("cosine.yaml", NO_EXPORT, "--trainer.max_epochs=1", *options)
    return runs("teacher"), capsys.readouterr().out


@pytest.mark.usefixtures("plain_teacher")
def test_a_teacher_of_a_trial_serves_only_such_trials_and_an_edited_config_trains_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    limited = "--trainer.limit_train_batches=1"
    words = f"{TEACHER.format(0)} (DeepNN trained on Tiny for 0.25 epochs (cut short by limit_train_batches 1), test"
    for options in ([limited], [limited], [f"--model.teacher.weights={TEACHER.format(0)}"]):  # a name always counts
        count, out = teachers(capsys, *options)
        assert (count, words in out) == (1, True)
    count, out = teachers(capsys, "--trainer.limit_test_batches=0")  # the teacher is tested on all images
    assert count == 2
    assert f"{NOT_REUSED}trainer.limit_train_batches 1, but this run has null; --model.teacher.weights takes" in out
    assert teachers(capsys)[0] == 2
    weights = ("lightning_logs/cosine/version_4/ModefiedNNLight.pth", *TINY, "--trainer.max_epochs=1")
    for measured in (("last",), weights):  # a checkpoint knows its teacher
        tested = run(["test", "--config=cosine.yaml", TINY[0], f"--ckpt_path={measured[0]}", *measured[1:]])
        assert tested.own.model.init_args.teacher.init_args.weights == TEACHER.format(1)
    change("teacher.yaml", "lr: 5.0e-05", "lr: 1.0e-4")
    count, out = teachers(capsys)
    assert (count, "trained with --model.optimizer.lr 5e-05, but this run has 0.0001" in out) == (3, True)


@pytest.mark.usefixtures("plain_teacher")
def test_a_teacher_that_was_trained_as_its_config_says_serves_other_seeds_batches_and_lengths(
    capsys: pytest.CaptureFixture[str],
) -> None:
    change("teacher.yaml", "max_epochs: 50", "max_epochs: 2")
    fit("teacher.yaml", NO_EXPORT, "--data.batch_size=128")  # all of the config's settings
    capsys.readouterr()
    count, out = teachers(capsys, "--data.augment=[HorizontalFlip]", "--data.val_size=0.2", "--seed_everything=1")
    assert count == 1
    assert f"Teacher: {TEACHER.format(0)} was trained with seed 0; a teacher serves all random seeds.\n" in out
    assert "is not reused" not in out
    count, out = teachers(capsys, "--data.count=60")
    assert (count, f"{NOT_REUSED}data.count 120, but this run has 60; " in out) == (2, True)


STOP = "{class_path: test_training.InterruptAt, init_args: {step: 2, number: 2}}"


@pytest.mark.usefixtures("plain_teacher")
def test_a_teachers_first_run_that_is_stopped_says_to_give_the_first_command_again_and_does_not_count(
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = Path("teacher.yaml").read_text()
    change("teacher.yaml", "trainer:\n", f"trainer:\n  callbacks: [{STOP}]\n")
    assert main(DISTILL) == 130
    assert capsys.readouterr().out.endswith("\nThat is the teacher. Then give the first command again.\n")
    Path("teacher.yaml").write_text(before)
    assert teachers(capsys)[0] == 2


def test_another_or_a_replaced_teacher_is_refused(temp_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit("student.yaml", NO_EXPORT)
    teacher = LOGS / "student/version_0/NNLight.pth"
    options = ["--model.teacher.network=LightNN", f"--model.teacher.weights={teacher}"]
    run([*DISTILL, *options])
    capsys.readouterr()
    last = ["--ckpt_path=last", "--trainer.max_epochs=3"]
    content = torch.load(teacher, weights_only=True)
    content["state_dict"]["classifier.3.bias"] += 0.5
    torch.save(content, "other.pth")
    assert main([*DISTILL, *options, "--model.teacher.weights=other.pth", *last]) == 2
    assert f"learned from the teacher {teacher}, not from other.pth; add --model.teac" in capsys.readouterr().err
    assert run([*DISTILL, *options, *last]).trainer.current_epoch == 3
    Path("other.pth").replace(teacher)
    assert main([*DISTILL, *options, *last]) == 2
    assert f"the teacher {teacher} has been replaced since lightning_logs/cosine" in capsys.readouterr().err
    assert main([*DISTILL, *options, "--data.classes=5"]) == 2
    assert "was trained on 4 classes, the data has 5; fine-tune it" in capsys.readouterr().err
    assert main([*DISTILL, *options[1:]]) == 2
    assert "weights of LightNN, not of DeepNN" in capsys.readouterr().err


# --- the baseline -----------------------------------------------------------------------------------------------------


def test_the_baseline_is_trained_first_reused_and_shown_beside_the_distilled_student(
    temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit("student.yaml", NO_EXPORT, "--trainer.max_epochs=1")  # one epoch is not two
    fit(*BASELINE, "--data.batch_size=16")
    out = capsys.readouterr().out
    assert "There is no baseline yet: student.yaml trains it first" in out
    distilled, baseline = summary("cosine"), summary("student", 1)
    assert baseline["data"] == distilled["data"]  # that of this run, changed options and all
    assert baseline["steps"] == distilled["steps"] == 16
    accuracy, baseline_accuracy = distilled["metrics"]["test/accuracy"], baseline["metrics"]["test/accuracy"]
    assert distilled["baseline"] == {
        "name": "LightNN",
        "parameters": baseline["network"]["parameters"],
        "run": "student",
        "epochs": 2.0,
        "limits": "",
        "weights": str(LOGS / "student/version_1/NNLight.pth"),
        "test_accuracy": pytest.approx(baseline_accuracy),
    }
    text = (LOGS / "cosine/version_0/summary.txt").read_text()
    assert "  baseline  the student without a teacher: LightNN (" in text
    assert f"by student for 2 epochs: {100 * baseline_accuracy:.2f} % on the test images" in text
    gain = f"{100 * (accuracy - baseline_accuracy):+.2f} points over the student without a teacher, in one run each"
    assert f"  gain      {gain}" in text
    fit(*BASELINE, "--data.batch_size=16", "--trainer.log_every_n_steps=1")
    assert (runs("student"), summary("cosine", 1)["baseline"]) == (2, distilled["baseline"])
    of_both = [summary("cosine", number)["metrics"]["train/loss"] for number in (0, 1)]
    assert of_both[0] == of_both[1]  # as if no other run came first

    Path("other.yaml").write_text("model: {class_path: Classifier, init_args: {network: DeepNN}}")
    fit(*BASELINE, "--data.batch_size=16", "--config=other.yaml")
    dropped = "whose teacher, ce_loss_weight, hidden_rep_loss_weight are dropped.\n"
    assert f"Settings: Classifier replaces the task of cosine.yaml, {dropped}" in capsys.readouterr().out
    text = (LOGS / "cosine/version_2/summary.txt").read_text()
    assert "gain      not given: the student without a teacher is LightNN, and this run's network DeepNN\n" in text
    assert "points over" not in text
    assert summary("cosine", 2)["no_gain"] in text


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
        ({"class_names": ("a", "c")}, "the student without a teacher was trained on other data, Tiny"),
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
    Path("both.yaml").write_text((CONFIG_FOLDER / "cosine.yaml").read_text() + "baseline: student.yaml\n")
    Path("study.yaml").write_text("{teacher: {config: teacher.yaml}, baseline: {config: both.yaml}, compared: []}")
    _, both = plan_rows(read_request(["--config=study.yaml", *TINY[:4]]))
    assert both.learns
    assert both.built.own.baseline is None
    assert runs("student") == 0
