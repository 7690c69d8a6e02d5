"""The commands fit, validate and test, run in this process on tiny images."""

import itertools
import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Callback
from training_example import CONFIG_FOLDER, CONFIGS, NO_EXPORT, TINY, WHOLE, fit

from kd_lightning.cli import main
from kd_lightning.export import speed
from kd_lightning.fast import ahead as fast_ahead
from kd_lightning.fast.ahead import StepsAhead
from kd_lightning.networks.weights import load_model
from kd_lightning.training.cli import run


@pytest.mark.parametrize("config", CONFIGS)
def test_every_config_says_how_to_run_it_and_does(config: str, temp_folder: Path) -> None:
    first_line = (CONFIG_FOLDER / config).read_text().splitlines()[0]
    assert first_line == f"# kd-lightning fit --config {config}"
    if config not in WHOLE:
        assert main([*first_line.split()[2:], *TINY, "--trainer.fast_dev_run=true"]) == 0


@pytest.mark.parametrize("config", WHOLE)
def test_a_config_runs_to_its_end_and_its_files_are_there(
    config: str, temp_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "ROUNDS", 1)
    first_line = (CONFIG_FOLDER / config).read_text().splitlines()[0]
    name = config.removesuffix(".yaml")
    assert main([*first_line.split()[2:], *TINY]) == 0
    folder = temp_folder / "lightning_logs" / name / "version_0"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["epochs"] == 2
    assert (folder / "summary.txt").read_text() in capsys.readouterr().out
    network, info = load_model(next(folder.glob("*.pth")))
    assert info.accuracy == pytest.approx(summary["metrics"]["test/accuracy"])
    assert type(network).__name__ == summary["network"]["name"]
    assert (folder / "checkpoints" / "last.ckpt").is_file()
    assert list(folder.glob("events.out.tfevents.*"))
    for file, size in summary["files"].items():
        assert (temp_folder / file).stat().st_size == size


def test_a_run_takes_one_device_so_that_its_batches_are_the_configs_on_every_machine(
    temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for option, devices in ((), 1), (["--trainer.devices=2"], "2"):
        with pytest.raises(SystemExit):
            main(["fit", "--config=student.yaml", *option, "--print_config"])
        assert yaml.safe_load(capsys.readouterr().out)["trainer"]["devices"] == devices


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run of the student that nothing stops."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("undisturbed"))
        return fit("student.yaml", NO_EXPORT)


class InterruptAt(Callback):
    """Presses Ctrl-C, or sends another signal, in a step."""

    def __init__(self, step: int, number: int = int(signal.SIGINT)) -> None:
        self.step = step
        self.number = number

    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step:
            signal.raise_signal(self.number)


@pytest.mark.parametrize(
    ("step", "number", "saved"),
    [
        (2, signal.SIGINT, "Ctrl-C; 3 steps saved"),
        (3, signal.SIGINT, "Ctrl-C; 1 epoch saved"),  # in the first epoch's last batch
        (5, signal.SIGTERM, "SIGTERM; 6 steps saved"),
    ],
)
def test_a_stopped_run_goes_on_to_the_weights_of_an_undisturbed_one(
    step: int,
    number: signal.Signals,
    saved: str,
    undisturbed: Any,
    temp_folder: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    at = f"{{step: {step}, number: {int(number)}}}"
    callbacks = f"[{{class_path: test_training.InterruptAt, init_args: {at}}}]"
    assert main(["fit", "--config=student.yaml", *TINY, NO_EXPORT, f"--trainer.callbacks={callbacks}"]) == 128 + number
    printed = capsys.readouterr().out
    assert f"Stopped by {saved}. Go on from there with:\n" in printed
    command = re.search(r"kd-lightning (fit .*)", printed)
    assert command is not None
    assert not list(Path("lightning_logs/student/version_0").glob("*.pth"))
    resumed = run([*command[1].split(), NO_EXPORT])
    assert resumed.trainer.global_step == undisturbed.trainer.global_step == 8
    for mine, other in zip(undisturbed.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(mine, other)
    assert Path("lightning_logs/student/version_1/summary.json").is_file()  # a run's own config keeps its name


def test_a_stopped_run_has_saved_what_callbacks_do_after_its_last_step(
    temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    average = "{class_path: EMAWeightAveraging, init_args: {decay: 0.5}}"
    undisturbed = fit("student.yaml", NO_EXPORT, f"--trainer.callbacks=[SaveWeights, {average}]")
    stop = f"{{class_path: test_training.InterruptAt, init_args: {{step: 2, number: {int(signal.SIGINT)}}}}}"
    callbacks = f"--trainer.callbacks=[SaveWeights, {average}, {stop}]"
    command = ["fit", "--config=student.yaml", *TINY, NO_EXPORT, callbacks]
    assert main(command) == 130
    again = re.search(r"kd-lightning (fit .*)", capsys.readouterr().out)
    assert again is not None
    resumed = run([*again[1].split(), NO_EXPORT, f"--trainer.callbacks=[SaveWeights, {average}]"])
    for mine, other in zip(undisturbed.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_ctrl_c_in_the_last_step_stops_before_the_test(temp_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    callbacks = "[{class_path: test_training.InterruptAt, init_args: {step: 7}}]"
    assert main(["fit", "--config=student.yaml", *TINY, NO_EXPORT, f"--trainer.callbacks={callbacks}"]) == 130
    assert "all epochs are trained and saved, but nothing is tested. Go on from there with:" in capsys.readouterr().out
    saved = torch.load("lightning_logs/student/version_0/checkpoints/last.ckpt", weights_only=True)
    assert saved["global_step"] == 8


def test_ctrl_c_between_steps_that_lightning_does_not_see_stops_there_and_goes_on_the_same(
    temp_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--data.count=1100", "--data.batch_size=16", NO_EXPORT, "--model.fast=true"]  # 66 steps an epoch
    undisturbed = fit("student.yaml", *options)
    advance = StepsAhead._advance_progress

    def interrupted(ahead: StepsAhead) -> None:
        advance(ahead)
        if ahead.trainer.global_step == 80:
            signal.raise_signal(signal.SIGINT)

    clock = itertools.count(step=0.04)  # five steps at once
    with monkeypatch.context() as patch:
        patch.setattr(StepsAhead, "_advance_progress", interrupted)
        patch.setattr(fast_ahead, "monotonic", lambda: next(clock))
        assert main(["fit", "--config=student.yaml", *TINY, *options]) == 130
    command = re.search(r"kd-lightning (fit .*)", capsys.readouterr().out)
    assert command is not None
    resumed = run([*command[1].split(), NO_EXPORT])
    assert resumed.trainer.global_step == undisturbed.trainer.global_step == 2 * 66
    for mine, other in zip(undisturbed.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(mine, other)


def test_a_saved_run_is_tested_and_validated_from_its_own_config(
    temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fitted = fit("student.yaml", NO_EXPORT)
    accuracy = float(fitted.trainer.callback_metrics["test/accuracy"])
    folder = "lightning_logs/student/version_0"
    options = [f"--config={folder}/config.yaml", f"--ckpt_path={folder}/checkpoints/last.ckpt"]
    tested = run(["test", *options])
    assert float(tested.trainer.callback_metrics["test/accuracy"]) == pytest.approx(accuracy)
    assert main(["validate", *options]) == 0
    assert main(["validate", *options, "--data.val_size=0"]) == 2
    assert "no validation images" in capsys.readouterr().err


def test_without_validation_images_a_run_still_ends_with_all_its_files(temp_folder: Path) -> None:
    fit("student.yaml", NO_EXPORT, "--data.val_size=0")
    folder = Path("lightning_logs/student/version_0")
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["last.ckpt"]
    assert json.loads((folder / "summary.json").read_text())["data"]["val_images"] == 0


MISTAKES = {
    "no config": (["--config=nope.yaml"], "there is no config 'nope.yaml'"),
    "a study": (["--config=notebook_table.yaml"], "is a study: run it with `kd-lightning compare"),
    "no YAML": (["--config=broken.yaml"], "broken.yaml is not valid YAML in line"),
    "no devices": (
        ["--config=student.yaml", *TINY, "--trainer.devices=0"],
        "(devices='0')` value is not a valid input",
    ),
    "no strategy": (["--config=student.yaml", *TINY, "--trainer.strategy=x"], "options do not fit each other or this"),
    "no folder": (
        ["--config=student.yaml", "--data=ImageFolderDataModule", "--data.root=nowhere"],
        "nowhere",
    ),
    "no images": (["--config=student.yaml", "--data=ImageFolderDataModule", "--data.root=empty"], "empty"),
    "no checkpoint": (["--config=student.yaml", *TINY, "--ckpt_path=nope.ckpt"], "no model file nope.ckpt"),
    "other checkpoint": (
        ["--config=student.yaml", *TINY, "--ckpt_path=other.ckpt"],
        "is for another network, --model.reparameterize or task",
    ),
    "pickled checkpoint": (
        ["--config=student.yaml", *TINY, "--ckpt_path=evil.ckpt"],
        "pickled code, which is never run",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_with_one_sentence_and_status_2(
    mistake: str, temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("broken.yaml").write_text("trainer: [1")
    Path("empty").mkdir()
    torch.save({"state_dict": {"network.a": torch.zeros(1)}, "pytorch-lightning_version": "2.6.0"}, "other.ckpt")
    torch.save({"state_dict": main}, "evil.ckpt")
    options, expected = MISTAKES[mistake]
    assert main(["fit", *options]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1
    assert "Traceback" not in error
