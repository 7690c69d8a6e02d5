"""Which teacher a distillation takes, and what is looked at before one is trained."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from jsonargparse import Namespace
from training_example import NO_EXPORT, SHIPPED, TINY, fit

from kd_lightning.callbacks.interrupt import what_is_saved
from kd_lightning.cli import main
from kd_lightning.errors import UserError
from kd_lightning.machine import stopping
from kd_lightning.training.cli import run
from kd_lightning.training.teacher_checks import check_target
from kd_lightning.training.teacher_first import train_teacher

DISTILL = ["fit", "--config=cosine.yaml", *TINY, NO_EXPORT]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("runs", "the teacher's weights runs are a folder; name its file"),
        ("runs/techer.pth", "no teacher's weights runs/techer.pth; did you mean runs/teacher.pth? Else name its file"),
        ("run/other.pth", "did you mean runs?"),
        ("runs/new.ckpt", "a trained file ends in .pth"),
        ("runs/teacher.pth/new.pth", "because runs/teacher.pth is not a writable folder"),
    ],
)
def test_a_wrong_path_for_a_teacher_is_refused_before_one_is_trained(path: str, words: str, temp_folder: Path) -> None:
    Path("runs").mkdir()
    Path("runs/teacher.pth").touch()
    with pytest.raises(UserError, match=re.escape(words)):
        check_target(Path(path), "teacher.yaml")


def test_a_new_name_is_a_path_for_a_teacher_also_where_only_its_number_is_new(temp_folder: Path) -> None:
    Path("runs").mkdir()
    Path("runs/teacher_1.pth").touch()
    for path in ("runs/teacher_2.pth", "runs/wide.pth", "elsewhere/teacher.pth"):
        check_target(Path(path), "teacher.yaml")


def test_a_teacher_that_would_be_another_network_or_needs_itself_is_refused_before_it_is_trained(
    temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*DISTILL, "--model.teacher.network=LightNN"]) == 2
    assert "the teacher is to be LightNN(), but teacher.yaml trains DeepNN(); name" in capsys.readouterr().err
    config = (SHIPPED[0].parent / "cosine.yaml").read_text().replace("network: DeepNN", "network: LightNN")
    Path("loop.yaml").write_text(config.replace("config: teacher.yaml", "config: loop.yaml"))
    assert main(["fit", "--config=loop.yaml", *TINY, NO_EXPORT]) == 2
    assert "loop.yaml trains a teacher with loop.yaml first, without end" in capsys.readouterr().err
    assert not Path("lightning_logs/cosine").exists()


def test_a_teachers_first_run_that_is_stopped_says_to_give_the_first_command_again(temp_folder: Path) -> None:
    Path("run/checkpoints").mkdir(parents=True)
    Path("run/checkpoints/last.ckpt").touch()
    printed = []

    def stopped(options: Sequence[str]) -> Path:
        printed.append(what_is_saved(Path("run"), "1 epoch saved"))
        return Path("run/net.pth")

    with stopping.stoppable():
        train_teacher(Namespace(config="teacher.yaml", weights=None), Path("logs"), {}, stopped)
        assert printed[0].endswith("/last.ckpt\nThat is the teacher. Then give the first command again.")
        assert what_is_saved(Path("run"), "1 epoch saved").endswith("/last.ckpt")


WRONG_FOR_THE_STUDENT = {
    "OneCycleLR ends after 3 steps, but this run has 8": [
        "--model.lr_scheduler=torch.optim.lr_scheduler.OneCycleLR",
        "--model.lr_scheduler.max_lr=0.1",
        "--model.lr_scheduler.total_steps=3",
    ],
    "StochasticWeightAveraging is not known to work with the fast path": [
        "--trainer.callbacks+={class_path: StochasticWeightAveraging, init_args: {swa_lrs: 0.1, device: null}}",
        "--model.fast=true",
    ],
    "the loss 'kd' (ImageByImage) gives a tensor of shape (32,), but must give a scalar": [
        "--model=Distill",
        "--model.losses={kd: plain_module.ImageByImage}",
    ],
    "the teacher cannot be cached: RandomCrop": ["--model.cache_teacher=true", "--data.augment=[RandomCrop]"],
}


@pytest.mark.parametrize("words", WRONG_FOR_THE_STUDENT)
def test_a_mistake_in_the_students_settings_is_refused_before_its_teacher_is_trained(
    words: str, temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*DISTILL, *WRONG_FOR_THE_STUDENT[words]]) == 2
    printed = capsys.readouterr()
    assert words in printed.err
    assert "teacher" not in printed.out.lower()
    assert not Path("lightning_logs").exists()


TEACHER = "lightning_logs/teacher/version_{}/NNDeep.pth"
NOT_REUSED = f"Teacher: {TEACHER.format(0)} is not reused: it was trained with --"


def teachers(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, str]:
    """Distill with options; return how many runs of a teacher there are now, and what was printed."""
    fit("cosine.yaml", NO_EXPORT, "--trainer.max_epochs=1", *options)
    return len(list(Path("lightning_logs/teacher").glob("version_*"))), capsys.readouterr().out


@pytest.mark.usefixtures("plain_teacher")
def test_a_teacher_of_a_smoke_test_serves_only_smoke_tests(capsys: pytest.CaptureFixture[str]) -> None:
    limited = "--trainer.limit_train_batches=1"
    words = f"{TEACHER.format(0)} (DeepNN trained on Tiny for 0.25 epochs (cut short by limit_train_batches 1), test"
    for _ in range(2):
        count, out = teachers(capsys, limited)
        assert (count, words in out) == (1, True)
    count, out = teachers(capsys, f"--model.teacher.weights={TEACHER.format(0)}")  # a name always counts
    assert (count, words in out) == (1, True)
    count, out = teachers(capsys)
    assert count == 2
    assert f"{NOT_REUSED}trainer.limit_train_batches 1, but this run has null; --model.teacher.weights takes" in out
    assert teachers(capsys)[0] == 2


@pytest.mark.usefixtures("plain_teacher")
def test_a_trial_does_not_teach_the_real_run_and_an_edited_config_trains_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert teachers(capsys)[0] == 1
    count, out = teachers(capsys, "--trainer.max_epochs=2")
    assert (count, f"{NOT_REUSED}trainer.max_epochs 1, but this run has 2" in out) == (2, True)
    assert teachers(capsys)[0] == 2
    assert main(["test", "--config=cosine.yaml", TINY[0], "--ckpt_path=last"]) == 0  # its own teacher, of one epoch
    config = Path("teacher.yaml")
    config.write_text(config.read_text().replace("lr: 5.0e-05", "lr: 1.0e-4"))
    count, out = teachers(capsys)
    assert (count, "trained with --model.optimizer.lr 5e-05, but this run has 0.0001" in out) == (3, True)


@pytest.mark.usefixtures("plain_teacher")
def test_a_teacher_that_was_trained_as_its_config_says_serves_other_seeds_batches_and_lengths(
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = Path("teacher.yaml")
    config.write_text(config.read_text().replace("max_epochs: 50", "max_epochs: 2"))
    fit("teacher.yaml", NO_EXPORT, "--data.batch_size=128")  # all of the config's settings
    capsys.readouterr()
    count, out = teachers(capsys, "--data.augment=[HorizontalFlip]", "--data.val_size=0.2", "--seed_everything=1")
    assert count == 1
    assert f"Teacher: {TEACHER.format(0)} was trained with seed 0; a teacher serves all random seeds.\n" in out
    assert "is not reused" not in out
    count, out = teachers(capsys, "--data.count=60")
    assert (count, f"{NOT_REUSED}data.count 120, but this run has 60; " in out) == (2, True)


@pytest.mark.usefixtures("plain_teacher")
def test_a_teacher_that_was_not_tested_is_not_reused_and_one_that_is_trained_first_is_always_tested(
    capsys: pytest.CaptureFixture[str],
) -> None:
    fit("teacher.yaml", NO_EXPORT, "--trainer.max_epochs=1", "--trainer.limit_test_batches=0")
    count, out = teachers(capsys, "--trainer.limit_test_batches=0")
    assert (count, "is not reused: it was stopped, or not tested on all test images; " in out) == (2, True)
    assert teachers(capsys)[0] == 2


def test_a_replaced_or_other_teacher_is_noticed_when_a_run_is_resumed(
    temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit("student.yaml", NO_EXPORT)
    teacher = Path("lightning_logs/student/version_0/NNLight.pth")
    options = ["--model.teacher.network=LightNN", "--model.teacher.weights"]
    run([*DISTILL, *options, str(teacher)])
    capsys.readouterr()
    last = ["--ckpt_path=last", "--trainer.max_epochs=3"]
    content = torch.load(teacher, weights_only=True)
    content["state_dict"]["classifier.3.bias"] += 0.5
    torch.save(content, "other.pth")
    assert main([*DISTILL, *options, "other.pth", *last]) == 2
    assert f"learned from the teacher {teacher}, not from other.pth; add --model.teac" in capsys.readouterr().err
    assert run([*DISTILL, *options, str(teacher), *last]).trainer.current_epoch == 3
    Path("other.pth").replace(teacher)
    assert main([*DISTILL, *options, str(teacher), *last]) == 2
    assert f"the teacher {teacher} has been replaced since lightning_logs/cosine" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("launcher", "words"),
    [
        ({"TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "2"}, "2 processes were started (WORLD_SIZE)"),
        ({"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4"}, "add --trainer.devices 4"),
    ],
)
def test_processes_of_a_launcher_that_are_not_connected_are_refused(
    launcher: dict[str, str],
    words: str,
    temp_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in launcher.items():
        monkeypatch.setenv(name, value)
    assert main(["fit", "--config=student.yaml", *TINY, NO_EXPORT]) == 2
    assert words in capsys.readouterr().err


def test_a_network_argument_that_the_data_set_is_not_silently_overridden(
    temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for option in ("--model.network.num_classes=7", "--model.teacher.network.image_size=64"):
        assert main([*DISTILL, option]) == 2
        assert f"{option.replace('=', ' is ')}, but the data has " in capsys.readouterr().err
    assert not Path("lightning_logs").exists()
