"""Files that are written atomically, and the folder of caches."""

import os
from pathlib import Path
from typing import Literal

import pytest
from disks import small_disk
from lightning.pytorch import LightningModule, Trainer

from kd_lightning import files
from kd_lightning.callbacks import ExportONNX, QuantizeONNX, SaveWeights
from kd_lightning.errors import UserError
from kd_lightning.files import atomic_write, cache_folder, disk_full_message, plain_name

Int8 = Literal["dynamic", "static"]


def test_a_file_is_there_only_when_it_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "new" / "net.pth"
    with atomic_write(path) as temporary:
        temporary.write_bytes(b"half")
        assert not list(path.parent.glob("*.pth"))  # not even as a hidden file
        assert temporary.suffix == path.suffix  # writers go by it
        temporary.write_bytes(b"whole")
    assert path.read_bytes() == b"whole"
    assert path.stat().st_mode & 0o777 == 0o666 & ~current_umask()
    with pytest.raises(OverflowError), atomic_write(path) as temporary:
        temporary.write_bytes((1).to_bytes(0))  # broken off
    assert path.read_bytes() == b"whole"
    assert list(path.parent.iterdir()) == [path]


def write(path: Path, size: int) -> None:
    with atomic_write(path) as temporary:
        temporary.write_bytes(bytes(size))


def current_umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def test_a_full_disk_is_a_sentence_and_the_old_file_stays(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 100_000) as disk:
        (disk / "net.pth").write_text("good")
        with pytest.raises(UserError, match=r"cannot write .*net\.pth: No space left on device; free space or choose"):
            write(disk / "net.pth", 200_000)
        assert [path.name for path in disk.iterdir()] == ["net.pth"]
        assert (disk / "net.pth").read_text() == "good"


def test_a_read_only_disk_is_a_sentence(tmp_path: Path) -> None:
    expected = pytest.raises(UserError, match=r"cannot write .*net\.pth: Read-only file system")
    with small_disk(tmp_path / "disk", 100_000, read_only=True) as disk, expected:
        write(disk / "new" / "net.pth", 1)


def test_an_error_that_a_full_disk_has_caused_is_recognized() -> None:
    full = ValueError("you tried to log 1")
    full.__cause__ = OSError(28, "No space left on device", "events.out")
    assert (
        disk_full_message(full)
        == "cannot write events.out: No space left on device; free space, or choose another folder."
    )
    full.__cause__.__context__ = UserError("cannot write last.ckpt.")
    assert disk_full_message(full) == "cannot write last.ckpt."
    wrong = ValueError("a mistake of ours")
    wrong.__context__ = UserError("a sentence")
    assert disk_full_message(wrong) is None


@pytest.mark.parametrize(
    "name",
    ["../../x.pth", "/x.pth", "a\\x.pth", "..", "", ".x.pth", "C:x.pth", "x\n.pth", "x" * 300, "x.pth.exe"],
)
def test_a_name_that_is_not_plain_or_would_take_another_files_place_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"must be a plain file name in the run's folder that ends in \.pth"):
        plain_name(name, ".pth", "SaveWeights.filename")


def test_every_callback_that_writes_takes_plain_names_only() -> None:
    for kind in (SaveWeights, ExportONNX, QuantizeONNX):
        with pytest.raises(UserError, match=rf"^{kind.__name__}\.filename is '\.\./x', but it must be a plain"):
            kind("../x")
    assert plain_name("NNLight.pth", ".pth", "x") == "NNLight.pth"


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (("a.onnx", "dynamic"), ("x.onnx", "static"), "two ONNX files of the run are called x.onnx"),
        (("a.onnx", "static"), ("a.onnx", "dynamic"), "two ONNX files of the run are called a.onnx"),
        (("a.onnx", "static"), ("b.onnx", "static"), "two QuantizeONNX write the static file"),
    ],
)
def test_no_exported_file_replaces_another(first: tuple[str, Int8], second: tuple[str, Int8], expected: str) -> None:
    callbacks = [ExportONNX("x.onnx"), QuantizeONNX(*first), QuantizeONNX(*second)]
    trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", callbacks=list(callbacks))
    for stage in ("fit", "test"):
        callbacks[1].setup(trainer, LightningModule(), stage)
    with pytest.raises(UserError, match=expected):
        callbacks[2].setup(trainer, LightningModule(), "fit")


def test_only_the_user_can_read_the_folder_of_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    for mode in (0o700, 0o755):
        folder = cache_folder()
        assert folder == tmp_path / "caches" / "kd_lightning"
        assert folder.stat().st_mode & 0o777 == 0o700
        folder.chmod(mode)


def no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")


@pytest.mark.parametrize("reason", ["home directory", "another user's", "File exists"])
def test_without_a_folder_of_caches_a_warning_appears_once(
    reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files._warn_once.cache_clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if reason == "home directory":
        monkeypatch.delenv("XDG_CACHE_HOME")
        monkeypatch.setattr(Path, "home", no_home)
    elif reason == "File exists":
        (tmp_path / "kd_lightning").touch()
    else:
        owner = os.getuid()
        monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    with pytest.warns(UserWarning, match=f"nothing is cached .*{reason}.*XDG_CACHE_HOME") as warned:
        assert [cache_folder(), cache_folder()] == [None, None]
    assert len(warned) == 1
