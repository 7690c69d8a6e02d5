import io
import pickle
import struct
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kd_lightning.errors import UserError
from kd_lightning.networks import LightNN
from kd_lightning.networks.torch_file import read_file

SCHEDULE = {"milestones": Counter([2, 2, 5]), "set": {1}, "size": torch.Size([1, 2]), "large": 10**30, "none": None}
TENSORS = {"half": torch.ones(3).half(), "empty": torch.zeros(0, 3), "own": nn.Parameter(torch.ones(2))}


@pytest.mark.parametrize("new", [True, False], ids=["archive", "before 1.6"])
@pytest.mark.parametrize("content", [SCHEDULE, TENSORS, LightNN(image_size=8).state_dict()])
def test_what_training_saves_is_read_in_both_formats(tmp_path: Path, new: bool, content: dict[str, Any]) -> None:
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=new)
    found = read_file(tmp_path / "a.pth")
    assert type(found) is type(content)
    for name, value in content.items():
        same = torch.equal(found[name], value) if isinstance(value, torch.Tensor) else found[name] == value
        assert same, name


def archive_of(data: bytes) -> bytes:
    """A torch file with another pickle in it."""
    saved, changed = io.BytesIO(), io.BytesIO()
    torch.save({}, saved)
    with zipfile.ZipFile(saved) as source, zipfile.ZipFile(changed, "w") as target:
        for entry in source.infolist():
            target.writestr(entry.filename, data if entry.filename.endswith("data.pkl") else source.read(entry))
    return changed.getvalue()


def copies() -> bytes:
    """A dict of 200 entries that is copied into 2,000 more: a short pickle that grows and grows."""
    entries = b"".join(b"X\x04\0\0\0%04dK\1" % number for number in range(200))
    copy = b"ccollections\nOrderedDict\n)Rh\0b"
    return b"\x80\2}(" + entries + b"uq\0](" + copy * 2000 + b"e."


def deep_key() -> bytes:
    """A dict whose key takes 2**40 steps to hash: a tuple of the same tuple twice, and so on."""
    return b"\x80\2})" + b"".join(b"q%ch%c\x86" % (level, level) for level in range(40)) + b"K\1s."


@pytest.mark.parametrize(
    "data",
    [
        copies(),
        deep_key(),
        pickle.dumps({"a": bytearray(10)}, 2),
        b"\x80\2c__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R.",
        b"\x80\2ctorch\nFloatTensor\nJ\xff\xff\xff\x7f\x85R.",
        b"\x80\2(((",
        b"\x80\2X\xff\xff\xff\xffa.",
        b"",
    ],
    ids=["copies", "deep key", "bytes", "allocates", "tensor", "open marks", "long text", "empty"],
)
def test_a_pickle_that_does_more_than_build_tensors_is_refused_before_it_runs(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.pth").write_bytes(archive_of(data))
    with pytest.raises(UserError, match=r"a\.pth is damaged or holds pickled code, which is never run"):
        read_file(tmp_path / "a.pth")


def test_a_compressed_archive_is_not_unpacked(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1000)}, tmp_path / "plain.pth")
    with zipfile.ZipFile(tmp_path / "plain.pth") as source, zipfile.ZipFile(tmp_path / "a.pth", "w") as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry), zipfile.ZIP_DEFLATED)
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
    torch.save({"a": torch.zeros(1).expand(10**9)}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"a\.pth is damaged"):
        read_file(tmp_path / "a.pth")


def test_a_file_of_before_1_6_that_names_more_values_than_it_has_is_refused(tmp_path: Path) -> None:
    torch.save(OrderedDict(a=torch.zeros(200)), tmp_path / "a.pth", _use_new_zipfile_serialization=False)
    content = (tmp_path / "a.pth").read_bytes()
    (tmp_path / "a.pth").write_bytes(content.replace(b"K\xc8", b"J\xff\xff\xff\x7f"))
    with pytest.raises(UserError, match=r"a\.pth is not a readable weight file"):
        read_file(tmp_path / "a.pth")
