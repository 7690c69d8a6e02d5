"""A finished run is reused where it was trained with the requested settings, and only there."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny import TinyNetwork
from weights_example import info_of

from kd_lightning.networks.weights import save_weights
from kd_lightning.training.reuse import accepted_by, find_run

CONFIG: dict[str, Any] = {
    "seed_everything": 0,
    "trainer": {"max_epochs": 8, "max_time": None, "log_every_n_steps": 50, "callbacks": None},
    "model": {
        "class_path": "Distill",
        "init_args": {
            "network": {"class_path": "LightNN", "init_args": {"dropout": 0.1}},
            "teacher": {"class_path": "Teacher", "init_args": {"weights": None, "config": "a.yaml"}},
            "losses": {"kd": {"class_path": "DIST", "init_args": {"weight": 2}}},
            "fast": "auto",
        },
    },
    "data": {"class_path": "Shapes", "init_args": {"batch_size": 8, "eval_batch_size": None, "augment": []}},
    "files": {"weights": "a.pth"},
}


def changed(option: str, value: Any) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(yaml.safe_dump(CONFIG))
    *parts, last = option.split(".")
    inner = config
    for part in parts:
        inner = inner.get("init_args", inner)[part]
    inner = inner if last == "class_path" else inner.get("init_args", inner)
    inner[last] = value
    return config


def finished(config: dict[str, Any], version: int = 0, accuracy: float | None = 0.5) -> Path:
    run = Path(f"runs/version_{version}")
    run.mkdir(parents=True)
    network = TinyNetwork()
    save_weights(run / "a.pth", network, replace(info_of(network), accuracy=accuracy))
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    return run / "a.pth"


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("trainer.max_epochs", 3, "--trainer.max_epochs 3, but this run has 8"),
        (
            "trainer.callbacks",
            [{"class_path": "lightning.pytorch.callbacks.EMAWeightAveraging"}],
            "--trainer.callbacks",
        ),
        ("model.losses", {}, "--model.losses.kd null, but this run has DIST"),
        ("model.losses.more", {"class_path": "DKD"}, "--model.losses.more DKD, but this run has null"),
        ("data.augment", ["Mixup"], "--data.augment ['Mixup'], but this run has []"),
        ("seed_everything", 1, "--seed_everything 1, but this run has 0"),
    ],
)
def test_a_run_that_was_trained_otherwise_is_not_reused_and_the_option_is_named(
    option: str, value: Any, words: str, temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(changed(option, value))
    assert find_run(Path("runs"), accepted_by(CONFIG), "Teacher", "; x") is None
    out = capsys.readouterr().out
    assert out.startswith(f"Teacher: runs/version_0/a.pth is not reused: it was trained with {words}")
    assert out.endswith("; x.\n")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("trainer.callbacks", [{"class_path": "lightning.pytorch.callbacks.LearningRateMonitor"}]),
        ("trainer.callbacks", [{"class_path": "kd_lightning.callbacks.LogGradientNorms"}]),
        ("model.teacher.weights", "found.pth"),
        ("data.eval_batch_size", 4),
    ],
)
def test_options_that_do_not_change_training_do_not_count(option: str, value: Any, temp_folder: Path) -> None:
    weights = finished(changed(option, value))
    assert find_run(Path("runs"), accepted_by(CONFIG), "Teacher") == weights


def test_an_older_run_is_taken_where_the_newest_was_stopped_is_damaged_or_another(
    temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = finished(CONFIG)
    finished(changed("trainer.max_epochs", 3), version=1)
    finished(CONFIG, version=2, accuracy=None)
    finished(CONFIG, version=3).with_name("config.yaml").write_text("{")
    assert find_run(Path("runs"), accepted_by(CONFIG), "Teacher") == weights
    printed = "Teacher: runs/version_3/a.pth is not reused: its files cannot be read.\n"
    assert capsys.readouterr().out == printed  # only of the newest
    either = accepted_by(CONFIG, changed("trainer.max_epochs", 3))
    assert find_run(Path("runs"), either, "Teacher") == Path("runs/version_1/a.pth")
    assert find_run(Path("runs"), accepted_by(changed("seed_everything", 5)), "Teacher") is None
    assert (
        find_run(Path("runs"), accepted_by(changed("seed_everything", 5)) | {"seed_everything": None}, "T") == weights
    )
