import gzip
import io
import pickle
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from cifar_files import cifar_batch, md5
from file_server import FileServer
from numpy.typing import NDArray
from torchvision import datasets

from kd_lightning.data.torchvision_sets import (
    CIFAR10DataModule,
    CIFAR100DataModule,
    DownloadedDataModule,
    FashionMNISTDataModule,
    MNISTDataModule,
    SVHNDataModule,
)
from kd_lightning.errors import UserError

Files = dict[str, bytes]
NUMBERS = np.random.default_rng(0)


def tar_gz(folder: str, files: Files) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), mtime=0)


def put(folder: Path, files: Files) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def loaded(data: DownloadedDataModule, split: str) -> tuple[NDArray[np.uint8], list[int]]:
    result = data.load("train" if split == "train" else "test")
    assert result is not None
    assert result.images.dtype == torch.uint8
    assert result.images.is_contiguous()
    assert result.labels.dtype == torch.int64
    return result.images.numpy(), result.labels.tolist()


@pytest.fixture(params=[CIFAR10DataModule, CIFAR100DataModule])
def cifar(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[type[CIFAR10DataModule], Files]:
    """A CIFAR datamodule whose checksums are those of a small set in the real layout, and the files of this set."""
    module: type[CIFAR10DataModule] = request.param
    layout = module.layout
    key = "labels" if layout is datasets.CIFAR10 else "fine_labels"
    files: Files = {}
    for number, (name, _) in enumerate(layout.train_list + layout.test_list):
        planes = NUMBERS.integers(0, 256, (4, 3072), dtype=np.uint8)
        files[name] = cifar_batch(planes, [number, 1, 2, 9], key)
    files[layout.meta["filename"]] = pickle.dumps({layout.meta["key"]: list(module.class_names)}, protocol=2)
    checksums = {name: md5(content) for name, content in files.items()}
    for name in ("train_list", "test_list"):
        monkeypatch.setattr(layout, name, [[batch, checksums[batch]] for batch, _ in getattr(layout, name)])
    monkeypatch.setattr(layout, "meta", {**layout.meta, "md5": checksums[layout.meta["filename"]]})
    monkeypatch.setattr(layout, "tgz_md5", md5(tar_gz(layout.base_folder, files)))
    return module, files


@pytest.fixture
def cifar_server(cifar: tuple[type[CIFAR10DataModule], Files]) -> Iterator[FileServer]:
    with FileServer(tar_gz(cifar[0].layout.base_folder, cifar[1])) as server:
        yield server


def check_against_files(data: CIFAR10DataModule, files: Files) -> None:
    for split, batches in (("train", data.layout.train_list), ("test", data.layout.test_list)):
        images, labels = loaded(data, split)
        read = [pickle.loads(files[name], encoding="latin1") for name, _ in batches]
        planes = np.concatenate([batch["data"] for batch in read]).reshape(-1, 3, 32, 32)
        np.testing.assert_array_equal(images.transpose(0, 3, 1, 2), planes)
        assert labels == [label for batch in read for label in batch.get("labels", batch.get("fine_labels"))]


def test_cifar_is_downloaded_once_and_unpacked(
    tmp_path: Path, cifar: tuple[type[CIFAR10DataModule], Files], cifar_server: FileServer
) -> None:
    check_against_files(cifar[0](root=str(tmp_path), mirrors=[cifar_server.source("plain")]), cifar[1])
    assert len(cifar_server.requests) == 1


def test_cifar_s_archive_replaces_a_broken_batch_without_a_network_and_only_its_known_files_are_unpacked(
    tmp_path: Path, cifar: tuple[type[CIFAR10DataModule], Files], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, files = cifar
    layout, archive = module.layout, tar_gz("..", {"evil": b"x", **files})
    monkeypatch.setattr(layout, "tgz_md5", md5(archive))
    put(tmp_path / "data", {layout.filename: archive})
    put(tmp_path / "data" / layout.base_folder, {**files, layout.train_list[0][0]: b"half a batch"})
    check_against_files(module(root=str(tmp_path / "data"), mirrors=[]), files)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert {path.name for path in (tmp_path / "data" / layout.base_folder).iterdir()} == set(files)


def test_a_batch_with_another_md5_is_not_opened(tmp_path: Path, cifar: tuple[type[CIFAR10DataModule], Files]) -> None:
    module, files = cifar
    bad = b"cos\nmkdir\n(V" + str(tmp_path / "made").encode() + b"\ntR."
    put(tmp_path / module.layout.base_folder, {**files, module.layout.train_list[0][0]: bad})
    with pytest.raises(UserError, match="could not be downloaded"):
        module(root=str(tmp_path), mirrors=[]).load("train")
    assert not (tmp_path / "made").exists()


def idx(array: NDArray[np.uint8]) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape) + array.tobytes()


@pytest.fixture(params=[MNISTDataModule, FashionMNISTDataModule])
def mnist(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[type[MNISTDataModule], Files]:
    """A datamodule of idx files whose checksums are those of a small set, and the files of this set, uncompressed."""
    module: type[MNISTDataModule] = request.param
    files: Files = {}
    for part, count in (("train", 20), ("t10k", 7)):
        files[f"{part}-images-idx3-ubyte"] = idx(NUMBERS.integers(0, 256, (count, 28, 28), dtype=np.uint8))
        files[f"{part}-labels-idx1-ubyte"] = idx(NUMBERS.integers(0, 10, count, dtype=np.uint8))
    monkeypatch.setattr(module, "idx_md5", {name: md5(content) for name, content in files.items()})
    return module, files


@pytest.mark.parametrize(("compressed", "folder"), [(False, "{name}/raw"), (True, ".")], ids=["raw", "gz in root"])
def test_idx_files_are_used_where_they_lie_and_equal_torchvision_s(
    tmp_path: Path, mnist: tuple[type[MNISTDataModule], Files], compressed: bool, folder: str
) -> None:
    module, files = mnist
    here = {f"{name}.gz": gzip.compress(content, 1) for name, content in files.items()} if compressed else files
    put(tmp_path / folder.format(name=module.layout.__name__), here)
    put(tmp_path / "reference" / module.layout.__name__ / "raw", files)
    for split in ("train", "test"):
        images, labels = loaded(module(root=str(tmp_path), mirrors=[]), split)
        expected = module.layout(str(tmp_path / "reference"), train=split == "train")
        np.testing.assert_array_equal(images, expected.data.numpy()[..., None])
        assert labels == expected.targets.tolist()
        grey = loaded(module(root=str(tmp_path), channels=3, mirrors=[]), split)[0]
        np.testing.assert_array_equal(grey, np.repeat(images, 3, axis=-1))


def test_idx_files_of_another_set_are_not_taken(tmp_path: Path, mnist: tuple[type[MNISTDataModule], Files]) -> None:
    module, files = mnist
    put(tmp_path, {name: content[:-1] + b"\x00" for name, content in files.items()})
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte\.gz could not be downloaded"):
        module(root=str(tmp_path), mirrors=[]).load("train")


def test_idx_files_are_downloaded_where_torchvision_keeps_them(
    tmp_path: Path, mnist: tuple[type[MNISTDataModule], Files], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, files = mnist
    name = "t10k-labels-idx1-ubyte"
    archive = gzip.compress(files[name])
    monkeypatch.setattr(module.layout, "resources", [(f"{name}.gz", md5(archive))])
    put(tmp_path, {other: content for other, content in files.items() if other != name})
    with FileServer(archive) as server:
        images, labels = loaded(module(root=str(tmp_path), mirrors=[server.source("plain")]), "test")
    assert len(images) == len(labels) == 7
    assert (tmp_path / module.layout.__name__ / "raw" / f"{name}.gz").read_bytes() == archive


@pytest.fixture
def svhn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small SVHN, whose checksums torchvision now expects."""
    io = pytest.importorskip("scipy.io")
    checksums = {}
    for split, count in (("train", 12), ("test", 11)):
        path = tmp_path / f"{split}_32x32.mat"
        labels = np.arange(count, dtype=np.uint8)[:, None] % 10 + 1  # 10 stands for the digit 0
        io.savemat(path, {"X": NUMBERS.integers(0, 256, (32, 32, 3, count), dtype=np.uint8), "y": labels})
        checksums[split] = ["", path.name, md5(path.read_bytes())]
    monkeypatch.setattr(datasets.SVHN, "split_list", checksums)
    return tmp_path


def test_svhn_equals_torchvision_s(svhn: Path) -> None:
    for split in ("train", "test"):
        images, labels = loaded(SVHNDataModule(root=str(svhn), mirrors=[]), split)
        expected = datasets.SVHN(str(svhn), split=split)
        np.testing.assert_array_equal(images, expected.data.transpose(0, 2, 3, 1))
        assert labels == expected.labels.tolist()


def test_what_a_network_needs_to_know_is_known_before_loading() -> None:
    known = [
        (data.num_classes, data.in_channels, data.image_size, data.class_names[0], data.class_names[-1])
        for data in (module(root="nowhere") for module in (CIFAR10DataModule, CIFAR100DataModule, SVHNDataModule))
    ]
    assert known == [(10, 3, 32, "airplane", "truck"), (100, 3, 32, "apple", "worm"), (10, 3, 32, "0", "9")]
    grey = FashionMNISTDataModule(root="nowhere")
    assert (grey.num_classes, grey.in_channels, grey.image_size) == (10, 1, 28)
    assert grey.class_names[0] == "T-shirt/top"
    assert not Path("nowhere").exists()
    assert CIFAR10DataModule().normalization.mean == (0.485, 0.456, 0.406)  # as in the reference notebook
    assert MNISTDataModule().normalize == SVHNDataModule().normalize == "auto"
