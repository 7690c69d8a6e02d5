"""A fit says what it trains, leaves one line an epoch, and ends with what to do next."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.callbacks import EarlyStopping
from task_example import quick_trainer
from tiny import TinyDataModule, TinyNetwork
from training_example import NO_EXPORT, TINY, fit

from kd_lightning.callbacks import EpochLines, epoch_lines
from kd_lightning.cli import main
from kd_lightning.fast.callback import TrainAhead
from kd_lightning.tasks import Classifier
from kd_lightning.training.next_steps import find_study

RUN = Path("lightning_logs/student/version_0")
LINE = r"epoch (\d+)/(\d+)  loss [\d.e-]+  train ([\d.]+) %(?:  val ([\d.]+) %)?  [\d.]+ s(?:  \d+ s left)?"


def printed(capsys: pytest.CaptureFixture[str], **options: Any) -> list[str]:
    """Train on 120 tiny images in 4 batches, and return what is printed."""
    data = TinyDataModule(**{"val_size": 20, **options.pop("data", {})})
    options = {"enable_progress_bar": True, **options}
    callbacks = [EpochLines(), TrainAhead(), *options.pop("callbacks", ())]
    quick_trainer(**{"epochs": 3, **options}, callbacks=callbacks).fit(Classifier(TinyNetwork(), fast=True), data)
    return capsys.readouterr().out.splitlines()


def test_a_run_begins_with_what_it_trains_leaves_its_epochs_and_ends_with_commands(
    temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit("student.yaml", NO_EXPORT)
    out = capsys.readouterr().out
    assert "\r" not in out
    assert "\x1b" not in out
    first, *lines = out.splitlines()
    assert re.fullmatch(r"Network: LightNN \([\d,]+ parameters\) learns CrossEntropy on Tiny \(4 .*\)", first)
    metrics = json.loads((RUN / "summary.json").read_text())["metrics"]
    found = [match.groups() for line in lines if (match := re.fullmatch(LINE, line))]
    shares = tuple(f"{100 * metrics[f'{name}/accuracy']:.1f}" for name in ("train", "val"))
    assert [epoch[:2] for epoch in found] == [("1", "2"), ("2", "2")]
    assert found[-1][2:] == shares
    assert lines[-3:] == [
        "Next:",
        "  tensorboard --logdir lightning_logs",
        f"  kd-lightning predict IMAGES --model {RUN / 'NNLight.pth'}",
    ]
    assert max(map(len, (RUN / "summary.txt").read_text().splitlines())) <= 80


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, ["epoch 1/3", "epoch 2/3", "epoch 3/3"]),
        ({"epochs": -1, "max_steps": 6}, ["epoch 1/2", "epoch 2/2"]),
        ({"data": {"val_size": 0}, "epochs": 1}, ["epoch 1/1"]),
        ({"epochs": 1, "val_check_interval": 2}, ["epoch 1/1, batch 2 of 4", "epoch 1/1"]),
    ],
)
def test_every_kind_of_fit_leaves_a_line_an_epoch(
    options: dict[str, Any], expected: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [line for line in printed(capsys, **options) if line.startswith("epoch")]
    assert [line.partition("  loss")[0].partition("  val")[0] for line in lines] == expected
    assert ("val" in lines[-1]) == (options.get("data") is None and "max_steps" not in options)
    assert "left" not in lines[-1]


def test_a_fit_that_stops_early_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    stop = EarlyStopping("val/accuracy", mode="max", patience=1, min_delta=2.0)
    *_, last = printed(capsys, epochs=9, callbacks=[stop])
    assert last == "Stopped after epoch 2 by EarlyStopping: val/accuracy does not get better."


def test_the_time_left_is_that_of_the_epochs_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    lines, trainer = EpochLines(), quick_trainer(epochs=50)
    lines._seconds = [4.0, 5.0, 6.0]
    monkeypatch.setattr(type(trainer), "current_epoch", 3)
    trainer.fit_loop.max_batches = 10
    assert lines._left(trainer) == "3 min 55 s left"
    assert lines._left(trainer, running=200) == "35 s left"


def test_a_terminal_shows_a_bar_below_the_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "80"}.items():
        monkeypatch.setenv(name, value)  # rich takes it for a terminal
    monkeypatch.setattr(epoch_lines, "can_draw", lambda: True)
    out = "\n".join(printed(capsys))
    plain = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]", "", out)
    assert re.search(r"━+ epoch 1/3", plain)
    assert len(re.findall(rf"^{LINE}$", plain.replace("\r", "\n"), re.MULTILINE)) == 3


def test_a_quiet_fit_prints_its_summary_alone(temp_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = {"class_path": "tiny.TinyNetwork"}
    model = {"class_path": "Classifier", "init_args": {"network": network}}
    Path("first.yaml").write_text(json.dumps({"model": model, "files": {"onnx": None}}))
    options = ["--model.teacher.config=first.yaml", "--model.teacher.network=tiny.TinyNetwork"]
    assert main(["fit", "--config=cosine.yaml", *TINY, NO_EXPORT, *options, "--quiet"]) == 0
    out = capsys.readouterr().out
    assert out == (Path("lightning_logs/cosine/version_0") / "summary.txt").read_text()
    fit("student.yaml", NO_EXPORT)  # the next one prints again
    assert "epoch 1/2" in capsys.readouterr().out


def test_a_study_that_compares_a_config_is_found_here_and_among_the_shipped_ones(temp_folder: Path) -> None:
    assert find_study(Path("quickstart.yaml")) == "quickstart_compare.yaml"
    assert find_study(Path("mine.yaml")) is None
    Path("mine_compared.yaml").write_text("baseline: {config: a.yaml}\ncompared:\n  - config: mine.yaml\n")
    assert find_study(Path("mine.yaml")) == "mine_compared.yaml"
