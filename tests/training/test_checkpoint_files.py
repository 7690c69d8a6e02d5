"""Checkpoints are written atomically, and the paths in an untrusted one are ignored."""

from pathlib import Path
from typing import Any

import pytest
import torch
from disks import files_of_at_most

from kd_lightning.callbacks import run_folder
from kd_lightning.errors import UserError
from kd_lightning.training import cli
from kd_lightning.training.checkpoint_files import AtomicCheckpoints
from kd_lightning.training.cli import run

TINY = [
    "--config=student.yaml",
    "--data=tiny.TinyDataModule",
    "--data.count=64",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--files.onnx=null",
    "--trainer.callbacks=[{class_path: lightning.pytorch.callbacks.ModelCheckpoint, "
    "init_args: {filename: mine, monitor: train/loss, enable_version_counter: false}}]",
]


def precious(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "photo.txt").write_text("mine")
    return folder


def kinds_of_path(work: Path) -> dict[str, tuple[str, Path]]:
    """Return what a file may name, and the folder or file that it points to, which must stay."""
    links = precious(work / "linked")
    (work / "link").symlink_to(links)
    folders = {name: precious(work / name) for name in ("local", "above", "absolute", "file")}
    return {
        "local": (f"local://{folders['local']}", folders["local"]),
        "above": ("lightning_logs/student/version_1/checkpoints/../../../../above", folders["above"]),
        "absolute": (str(folders["absolute"]), folders["absolute"]),
        "file": (f"file://{folders['file']}/photo.txt", folders["file"] / "photo.txt"),
        "link": (str(work / "link"), links),
    }


def untrusted(path: Path, names: list[str]) -> None:
    """Let every callback's state in a checkpoint name these paths as what is to be removed next."""
    content: dict[str, Any] = torch.load(path, weights_only=True)
    assert len([state for state in content["callbacks"].values() if "best_model_path" in state]) == 3
    for number, state in enumerate(content["callbacks"].values()):
        name = names[number % len(names)]
        state |= {
            "dirpath": "lightning_logs/student/version_1/checkpoints",
            "best_model_path": name,
            "last_model_path": name,
            "kth_best_model_path": name,
            "best_k_models": {name: torch.tensor(-1.0 if "max" in str(state) else 1e9)},
        }
    torch.save(content, path)


@pytest.mark.parametrize("layer", ["nothing is restored", "nothing is removed"])
def test_a_resumed_run_removes_nothing_that_its_checkpoint_names(
    layer: str, temp_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(["fit", *TINY, "--trainer.max_epochs=1"])
    kinds = kinds_of_path(temp_folder)
    untrusted(Path("lightning_logs/student/version_0/checkpoints/last.ckpt"), [name for name, _ in kinds.values()])
    if layer == "nothing is restored":
        monkeypatch.setattr(cli, "write_atomic_checkpoints", lambda trainer: None)
    else:
        monkeypatch.setattr(run_folder.RunFolder, "on_load_checkpoint", lambda *_: None)
    run(
        [
            "fit",
            *TINY,
            "--trainer.max_epochs=3",
            "--ckpt_path=lightning_logs/student/version_0/checkpoints/last.ckpt",
        ]
    )
    for kind, (_, there) in kinds.items():
        assert (there if there.is_file() else there / "photo.txt").read_text() == "mine", kind


def test_only_what_was_written_can_be_removed_and_never_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = AtomicCheckpoints()
    kinds = kinds_of_path(tmp_path)
    for name, there in kinds.values():
        files.remove_checkpoint(name)
        assert there.exists()
    files.save_checkpoint({"epoch": 1}, tmp_path / "new" / "last.ckpt")
    assert files.load_checkpoint("new/last.ckpt") == {"epoch": 1}
    files.remove_checkpoint(str(tmp_path / "new" / "last.ckpt"))
    assert not list((tmp_path / "new").iterdir())
    files.save_checkpoint({}, "memory://somewhere/last.ckpt")
    assert files.load_checkpoint("memory://somewhere/last.ckpt") == {}
    files.remove_checkpoint("memory://somewhere/last.ckpt")
    with pytest.raises(FileNotFoundError):
        files.load_checkpoint("memory://somewhere/last.ckpt")


def test_a_checkpoint_that_cannot_be_written_leaves_the_previous_one_and_the_error_says_how_to_resume(
    tmp_path: Path,
) -> None:
    files, path = AtomicCheckpoints(), tmp_path / "last.ckpt"
    with (
        files_of_at_most(100),
        pytest.raises(UserError, match=r"last\.ckpt: File too large; free space or choose [a-z ]*\.$"),
    ):
        files.save_checkpoint({"epoch": 1}, path)
    assert not list(tmp_path.iterdir())
    files.save_checkpoint({"epoch": 1}, path)
    expected = pytest.raises(UserError, match=r"File too large; .*; resume from it with --ckpt_path .*last\.ckpt\.$")
    with files_of_at_most(100), expected:
        files.save_checkpoint({"epoch": 2}, path)
    assert files.load_checkpoint(path) == {"epoch": 1}
    assert list(tmp_path.iterdir()) == [path]
