"""A file of outputs as a teacher: it is that teacher, and a file of anything else is refused."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.lib import format as npy
from recorded_graph import Captures
from task_example import quick_trainer
from tiny import TinyDataModule, TinyNetwork
from torch import Tensor
from training_example import NO_EXPORT, TINY, fit

from kd_lightning.cli import main
from kd_lightning.data.augment import HorizontalFlip, Mixup
from kd_lightning.errors import UserError
from kd_lightning.fast.callback import TrainAhead
from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.losses import DIST, CrossEntropy, FeatureRegression, SoftTargets
from kd_lightning.networks.layers import LOGITS
from kd_lightning.networks.weights import save_weights
from kd_lightning.tasks import Distill
from kd_lightning.teacher import FileTeacher, Teacher, file_teacher
from kd_lightning.teacher.table import Storage
from kd_lightning.teacher.write_logits import write_logits

CLASSES = [f"shade {number}" for number in range(4)]


def teacher() -> Teacher:
    torch.manual_seed(3)
    return Teacher(TinyNetwork(width=6))


@pytest.fixture
def logits(temp_folder: Path) -> np.ndarray[Any, Any]:
    """A teacher's logits, in ``teacher.npz`` and in ``teacher.npy``."""
    write_logits(teacher(), TinyDataModule(), Path("teacher.npz"))
    found: np.ndarray[Any, Any] = np.load("teacher.npz", allow_pickle=False)["logits"]
    np.save("teacher.npy", found)
    return found


def trained(of: Any, data: TinyDataModule | None = None, **options: Any) -> Distill:
    torch.manual_seed(0)
    task = Distill(TinyNetwork(), of, {"labels": CrossEntropy(), "kd": SoftTargets(), "dist": DIST()}, **options)
    quick_trainer(1, callbacks=[TrainAhead()]).fit(task, datamodule=data or TinyDataModule())
    return task


@pytest.mark.usefixtures("logits")
@pytest.mark.parametrize("storage", [Storage.MEMORY, Storage.DISK])
@pytest.mark.parametrize("name", ["teacher.npz", "teacher.npy"])
def test_a_file_of_a_teachers_logits_is_that_teacher_bit_for_bit(
    name: str, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = trained(teacher())
    monkeypatch.setattr(file_teacher, "choose_storage", lambda *_: storage)
    task = trained(FileTeacher(name), fast=storage is Storage.MEMORY)
    assert all(map(torch.equal, expected.network.parameters(), task.network.parameters()))
    assert task.trainer.callback_metrics["val/loss"] == expected.trainer.callback_metrics["val/loss"]
    assert task.teacher_cache is not None
    assert task.teacher_cache.storage is storage
    task.trainer.test(task, datamodule=TinyDataModule(), verbose=False)  # whose images are not in the file
    assert task.trainer.callback_metrics.keys() == {"test/accuracy", "test/labels"}


@pytest.mark.usefixtures("logits")
@pytest.mark.parametrize("storage", [Storage.MEMORY, Storage.DISK])
def test_only_a_file_that_is_on_the_device_is_read_in_a_cuda_graph(
    storage: Storage, captured_on_cpu: Captures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_teacher, "choose_storage", lambda *_: storage)
    trained(FileTeacher("teacher.npz"), TinyDataModule(batch_size=8), fast="auto")
    assert bool(captured_on_cpu.replays) is (storage is Storage.MEMORY)


def rows_of(of: FileTeacher, data: TinyDataModule, count: int = 8) -> Tensor:
    of.adapt(data, "validate")
    return of.logits(torch.arange(count))


def test_probabilities_become_logits_by_their_logarithm(logits: np.ndarray[Any, Any]) -> None:
    shares = torch.from_numpy(logits).softmax(1)
    shares[0] = torch.tensor([1.0, 0, 0, 0])
    np.savez("shares.npz", probabilities=shares.numpy())
    np.save("shares.npy", shares.double().numpy())
    for found in (FileTeacher("shares.npz"), FileTeacher("shares.npy", "probabilities")):
        given = rows_of(found, TinyDataModule())
        assert torch.allclose(given[1:], shares[1:8].log(), rtol=0, atol=1e-6)
        assert torch.allclose(given[0].exp(), torch.tensor([1.0, 1e-7, 1e-7, 1e-7]), rtol=1e-4)


class Named(TinyDataModule):
    """Tiny images that are files."""

    @property
    def file_names(self) -> list[str]:
        """Names in an order of their own."""
        return [f"photos/train/shade {row % 4}/{row}.png" for row in range(self.count)]


def write_csv(path: str, heading: list[str], rows: list[list[Any]]) -> None:
    with Path(path).open("w", newline="") as file:
        csv.writer(file).writerows([heading, *rows] if heading else rows)


def test_a_csv_is_put_in_order_by_the_names_of_its_images_and_classes(logits: np.ndarray[Any, Any]) -> None:
    shares, names = torch.from_numpy(logits).softmax(1), Named().file_names
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(0)).tolist()
    heading = ["image", "predicted_class", "probability", "sure", *(f"p({name})" for name in reversed(CLASSES))]
    rows = [[f"/elsewhere/{names[row]}", "", 0.5, "true", *shares[row].flip(0).tolist()] for row in order]
    write_csv("out.csv", heading, rows)  # as predict writes it
    assert torch.allclose(rows_of(FileTeacher("out.csv"), Named()), shares[:8].log(), rtol=0, atol=1e-6)
    write_csv("plain.csv", [], logits.tolist())
    assert torch.allclose(rows_of(FileTeacher("plain.csv"), Named()), torch.from_numpy(logits[:8]))
    write_csv("headed.csv", CLASSES[::-1], logits[:, ::-1].tolist())
    assert torch.allclose(rows_of(FileTeacher("headed.csv"), Named()), torch.from_numpy(logits[:8]))
    with pytest.raises(UserError, match="names of image files, but Tiny has none; leave them out"):
        rows_of(FileTeacher("out.csv"), TinyDataModule())
    write_csv("few.csv", heading, rows[1:])
    with pytest.raises(UserError, match=rf"no row for 1 of 120 images, such as shade {order[0] % 4}/{order[0]}.png"):
        rows_of(FileTeacher("few.csv"), Named())
    write_csv("twice.csv", heading, [*rows, rows[0]])
    with pytest.raises(UserError, match="several rows with one name"):
        rows_of(FileTeacher("twice.csv"), Named())


class Brighter(TinyDataModule):
    """The same images, a little brighter."""

    def load(self, split: Any) -> Any:
        """Draw them."""
        found = super().load(split)
        return None if found is None else found._replace(images=found.images + 1)


FLIPS: dict[str, Any] = {"augment": [HorizontalFlip()]}


@pytest.mark.usefixtures("logits")
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (TinyDataModule(count=200), "has 120 rows, but the data set has 200 images for training and validation"),
        (Brighter(), "was written for other images: their digest is not that of the training images"),
        (TinyDataModule(classes=3), "has 4 columns, but the data has 3 classes"),
        (TinyDataModule(**FLIPS), "for the images as they are; .* with --model.teacher.augmented true"),
        (TinyDataModule(augment=[Mixup()]), "Mixup in --data.augment mixes images"),
    ],
)
def test_a_file_for_other_images_is_refused(data: TinyDataModule, words: str) -> None:
    with pytest.raises(UserError, match=words):
        FileTeacher("teacher.npz").adapt(data)


def test_with_augmentation_a_user_may_ask_for_one_target_for_all_views(logits: np.ndarray[Any, Any]) -> None:
    task = Distill(TinyNetwork(), FileTeacher("teacher.npy", augmented=True), {"kd": SoftTargets()})
    data = TinyDataModule(**FLIPS)
    found: list[Tensor] = []

    def look() -> None:
        batch = data.on_after_batch_transfer(data.train_dataloader().gather(torch.arange(60)), 0)
        found.append(task.targets(batch).targets["kd"][LOGITS])

    task.when_ready(look)
    quick_trainer(1).fit(task, datamodule=data)
    assert torch.equal(found[0], torch.from_numpy(logits[:60]))


def changed(change: Callable[[np.ndarray[Any, Any]], Any]) -> Callable[[np.ndarray[Any, Any]], None]:
    return lambda logits: np.save("bad.npy", change(logits.copy()))


def huge(logits: np.ndarray[Any, Any]) -> None:
    with Path("bad.npy").open("wb") as file:
        npy.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (10**12, 10)})


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (changed(lambda logits: logits[:, :, None]), r"shape \(120, 4, 1\)"),
        (changed(lambda logits: logits.astype(int)), "the type int64, but must be a table of floating-point numbers"),
        (changed(lambda logits: np.where(logits == logits[3, 1], np.nan, logits)), "values that are not finite"),
        (changed(lambda logits: np.full_like(logits, 0.25)), "add up to 1; set --model.teacher.outputs probabilities"),
        (lambda logits: np.save("bad.npy", np.array([{}], object)), "Python objects, which are never unpickled"),
        (huge, r"an array of shape \(1000000000000, 10\) does not fit its 128 bytes"),
        (lambda logits: Path("bad.npy").write_bytes(b"\x93NUMPY\x01\x00"), "cannot be read"),
        (lambda logits: Path("bad.npy").unlink(missing_ok=True), "bad.npy, which is not a file; `kd-lightning export"),
    ],
)
def test_a_file_of_something_else_is_refused(
    write: Callable[[np.ndarray[Any, Any]], None], words: str, logits: np.ndarray[Any, Any]
) -> None:
    write(logits)
    with pytest.raises(UserError, match=words):
        FileTeacher("bad.npy").adapt(TinyDataModule())


def test_an_archive_that_is_compressed_or_says_otherwise_is_refused(logits: np.ndarray[Any, Any]) -> None:
    np.savez("bad.npz", logits=logits, labels=np.zeros(120, int))
    with pytest.raises(UserError, match=r"the labels in bad.npz are not those of the training images"):
        FileTeacher("bad.npz").adapt(TinyDataModule())
    np.savez("bad.npz", other=logits)
    with pytest.raises(UserError, match="it has no array 'logits' or 'probabilities'"):
        FileTeacher("bad.npz")
    np.savez_compressed("bad.npz", logits=logits)
    with pytest.raises(UserError, match=r"it is compressed: write it by numpy.savez"):
        FileTeacher("bad.npz")
    with pytest.raises(UserError, match=r"outputs is probabilities, but teacher.npz says that it holds logits"):
        FileTeacher("teacher.npz", "probabilities")
    with pytest.raises(UserError, match=r"'maps' reads layers of the teacher, but teacher.npz holds only its outputs"):
        Distill(TinyNetwork(), FileTeacher("teacher.npz"), {"maps": FeatureRegression("features")})


CONFIG = """
model:
  class_path: Distill
  init_args:
    network: tiny.TinyNetwork
    teacher: {class_path: FileTeacher, init_args: {path: t.npz}}
    losses: {labels: CrossEntropy, kd: SoftTargets}
data: tiny.TinyDataModule
"""


def test_export_writes_the_file_and_a_config_learns_from_it(
    temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network, seen = teacher().network, TinyDataModule().normalization
    info = ModelInfo(network.class_path, network.arguments, tuple(CLASSES), seen.mean, seen.std, 8)
    save_weights("weights.pth", network, info)
    model = ["--model=weights.pth", "--network=tiny.TinyNetwork", "--data=tiny.TinyDataModule"]
    assert main(["export", *model, "--logits=t.npz", "--web=page"]) == 2
    assert "--web is for ONNX files, but --logits writes only t.npz; leave it out" in capsys.readouterr().err
    assert main(["export", *model, "--logits=t.npz"]) == 0
    assert capsys.readouterr().out.endswith("t.npz: logits for 120 training images.\n")
    Path("file.yaml").write_text(CONFIG)
    fit("file.yaml", NO_EXPORT, "--trainer.max_epochs=1")
    out = capsys.readouterr().out
    assert "learns CrossEntropy + 0.9 SoftTargets from the file t.npz on Tiny" in out
    assert "the file t.npz, which has no outputs for the test images" in out
    assert main(["validate", "--config=file.yaml", *TINY, "--ckpt_path=last"]) == 0
    np.save("t.npy", np.load("t.npz")["logits"] + 1)
    other = ["--config=file.yaml", *TINY, "--ckpt_path=last", "--model.teacher.path=t.npy"]
    assert main(["fit", *other]) == 2
    assert "learned from the teacher t.npz, not from t.npy; add --model.teacher.path t.npz." in capsys.readouterr().err
