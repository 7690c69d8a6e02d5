"""A run writes into a folder of its own, and a smoke test writes nothing."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from disks import small_disk
from lightning.pytorch.loggers import Logger

from kd_lightning.callbacks.run_folder import claim_version
from kd_lightning.cli import main

TINY = [
    "--data=tiny.TinyDataModule",
    "--data.count=64",
    "--trainer.max_epochs=1",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
]
WEIGHTS = "--trainer.callbacks=[SaveWeights, lightning.pytorch.callbacks.ModelCheckpoint]"
RESULTS = {"README.md", "config.yaml", "summary.json", "summary.txt", "weights.pth"}
RESULTS |= {"best.ckpt", "last.ckpt", "epoch=0-step=1.ckpt"}
LOGGERS = {
    "one of the user's": (["--trainer.logger=test_run_folder.NoFolder"], "lightning_logs/student/version_0"),
    "CSV": (["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=logs"], "logs/lightning_logs/version_0"),
    "two": (
        ["--trainer.logger=[test_run_folder.NoFolder, {class_path: TensorBoardLogger, init_args: {save_dir: ~/logs}}]"],
        "home/logs/lightning_logs/version_0",
    ),
}


class NoFolder(Logger):
    """A logger that keeps what it is told somewhere else."""

    name, version = "elsewhere", 7

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        """Keep them."""

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Keep them."""


def files() -> set[Path]:
    return {path for path in Path().rglob("*") if path.is_file()}


@pytest.mark.parametrize("options", [["--config=student.yaml", "--trainer.logger=false"], ["--config=cosine.yaml"]])
def test_a_smoke_test_writes_nothing(options: list[str], temp_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("config.yaml").touch()
    assert main(["fit", *options, *TINY, "--trainer.fast_dev_run=true"]) == 0
    assert "Smoke test: " in capsys.readouterr().out
    assert sorted(temp_folder.rglob("*")) == [temp_folder / "config.yaml"]


@pytest.mark.parametrize("loggers", LOGGERS)
def test_whatever_logs_a_run_has_one_folder_and_writes_nothing_outside_of_it(
    loggers: str, temp_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(temp_folder / "home"))
    before = [Path("config.yaml"), Path("weights.pth"), Path("checkpoints/last.ckpt")]
    before[2].parent.mkdir()
    for path in before:
        path.write_text("mine")
    options, folder = LOGGERS[loggers]
    assert main(["fit", "--config=student.yaml", *TINY, "--files.onnx=null", WEIGHTS, *options]) == 0
    written = files() - set(before)
    assert {path.name for path in written} >= RESULTS
    assert all(path.is_relative_to(folder) for path in written)
    assert {path.read_text() for path in before} == {"mine"}
    assert Path(json.loads((Path(folder) / "summary.json").read_text())["folder"]).samefile(folder)


def test_a_logger_is_given_no_folder_that_holds_other_files(
    temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("NNLight.pth").write_text("mine")
    here = ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=.", "--trainer.logger.name="]
    assert main(["fit", "--config=student.yaml", *TINY, *here, "--trainer.logger.version="]) == 2
    assert capsys.readouterr().err == (
        "error: the logger's folder ./ holds NNLight.pth, which is another run's or yours; "
        "give the logger another version, or none.\n"
    )
    assert [path.name for path in temp_folder.iterdir()] == ["NNLight.pth"]


def test_runs_that_start_at_once_get_folders_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "version_4").mkdir()
    (tmp_path / "version_x").mkdir()
    with ThreadPoolExecutor(16) as pool:
        numbers = list(pool.map(lambda _: claim_version(tmp_path), range(64)))
    assert sorted(numbers) == list(range(5, 69))


def test_a_read_only_folder_of_runs_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with small_disk(tmp_path / "disk", 100_000, read_only=True) as disk:
        assert main(["fit", "--config=student.yaml", *TINY, f"--trainer.default_root_dir={disk}"]) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(r"error: cannot write .*student: Read-only file system; free space or choose .*\n", error)


def test_a_disk_that_is_too_full_for_tensorboard_is_one_sentence(
    tmp_path: Path, temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_disk(tmp_path / "disk", 12_000) as disk:
        assert main(["fit", "--config=student.yaml", *TINY, f"--trainer.default_root_dir={disk}"]) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(r"error: cannot write.*: No space left on device; .*\n", error)  # from the first writer


def test_a_full_disk_stops_training_with_a_sentence_and_the_last_good_checkpoint(
    tmp_path: Path, temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_disk(tmp_path / "disk", 700_000) as disk:  # room for two checkpoints, and none beside them
        root = [f"--trainer.default_root_dir={disk}", "--files.onnx=null", "--trainer.max_epochs=3"]
        assert main(["fit", "--config=student.yaml", *TINY, *root]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        resume = re.search(r"No space left on device; .* resume from it with (--ckpt_path .*/last\.ckpt)\.\n", error)
        assert resume is not None
        checkpoints = sorted(path.name for path in disk.rglob("checkpoints/*"))
        assert checkpoints == ["best.ckpt", "last.ckpt"]
        root[0] = f"--trainer.default_root_dir={temp_folder}"
        assert main(["fit", "--config=student.yaml", *TINY, *root, *resume[1].split()]) == 0
    summary = json.loads(Path("lightning_logs/student/version_0/summary.json").read_text())
    assert (summary["epochs"], summary["steps"]) == (3, 3)
