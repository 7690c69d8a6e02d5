"""Torch files: what is read, and what is refused in a sentence, without executing it and in bounded memory."""

import io
import struct
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kd_lightning.errors import UserError
from kd_lightning.networks import LightNN
from kd_lightning.networks.torch_file import read_file
from kd_lightning.networks.weights import read_weights

SCHEDULE = {"milestones": Counter([2, 2, 5]), "set": {1}, "size": torch.Size([1, 2]), "large": 10**30, "none": None}
TENSORS = {"half": torch.ones(3).half(), "empty": torch.zeros(0, 3), "own": nn.Parameter(torch.ones(2))}
ALLOCATES = b"\x80\2c__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R."
QUANTIZED = b"\x80\2ctorch._utils\n_rebuild_qtensor\n."


@pytest.mark.parametrize("new", [True, False], ids=["archive", "before 1.6"])
@pytest.mark.parametrize("content", [SCHEDULE, TENSORS, LightNN(image_size=8).state_dict()])
def test_what_training_saves_is_read_in_both_formats(tmp_path: Path, new: bool, content: dict[str, Any]) -> None:
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=new)
    found = read_file(tmp_path / "a.pth")
    assert type(found) is type(content)
    for name, value in content.items():
        same = torch.equal(found[name], value) if isinstance(value, torch.Tensor) else found[name] == value
        assert same, name


def write_archive(
    path: Path, change: Callable[[bytes], bytes] = lambda pickle: pickle, method: int = zipfile.ZIP_STORED
) -> None:
    """Write a torch file with a changed pickle, or with compressed entries."""
    saved = io.BytesIO()
    torch.save({"a": torch.zeros(2000)}, saved)
    with zipfile.ZipFile(saved) as source, zipfile.ZipFile(path, "w", method) as target:
        for entry in source.infolist():
            content = source.read(entry)
            target.writestr(entry.filename, change(content) if entry.filename.endswith("data.pkl") else content)


@pytest.mark.parametrize("pickle", [ALLOCATES, QUANTIZED])
@pytest.mark.parametrize("new", [True, False], ids=["archive", "before 1.6"])
def test_what_torch_allows_beyond_plain_tensors_is_refused_before_it_runs(
    tmp_path: Path, pickle: bytes, new: bool
) -> None:
    if new:
        write_archive(tmp_path / "a.pth", lambda _: pickle)
    else:
        (tmp_path / "a.pth").write_bytes(pickle)
    with pytest.raises(UserError, match=r"a\.pth is damaged or holds pickled code, which is never run"):
        read_file(tmp_path / "a.pth")


def test_a_compressed_archive_is_not_unpacked(tmp_path: Path) -> None:
    write_archive(tmp_path / "a.pth", method=zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match=r"a\.pth is not a readable weight file"):
        read_file(tmp_path / "a.pth")


def test_a_changed_byte_of_a_weight_is_noticed(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1000)}, tmp_path / "a.pth")
    content = bytearray((tmp_path / "a.pth").read_bytes())
    content[content.index(struct.pack("<20f", *[1.0] * 20)) + 402] ^= 0x40
    (tmp_path / "a.pth").write_bytes(content)
    assert torch.load(tmp_path / "a.pth")["a"].sum() != 1000  # torch itself does not notice
    with pytest.raises(UserError, match=r"a\.pth is not a readable weight file"):
        read_file(tmp_path / "a.pth")


def test_a_tensor_of_more_values_than_the_file_has_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1).expand(2**40)}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"a\.pth names more values than it holds"):
        read_weights(tmp_path / "a.pth")


@pytest.mark.parametrize("new", [True, False], ids=["archive", "before 1.6"])
def test_a_storage_of_more_values_than_the_file_has_is_refused(tmp_path: Path, new: bool) -> None:
    def grow(content: bytes) -> bytes:
        return content.replace(b"M\xd0\7", b"J\xff\xff\xff\x7f")  # 2,000 values become 2**31

    if new:
        write_archive(tmp_path / "a.pth", grow)
    else:
        content = io.BytesIO()
        torch.save({"a": torch.zeros(2000)}, content, _use_new_zipfile_serialization=False)
        (tmp_path / "a.pth").write_bytes(grow(content.getvalue()))
    with pytest.raises(UserError, match=r"a\.pth is not a readable weight file"):
        read_file(tmp_path / "a.pth")
