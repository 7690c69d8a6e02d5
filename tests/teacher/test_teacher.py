"""A teacher runs as its file says, live and cached alike; a table's key contains all that its values depend on."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from fast_example import train
from task_example import quick_trainer
from tiny import TinyDataModule, TinyNetwork
from torch import Tensor
from torch.nn import functional

from kd_lightning.data.augment import RandomCrop
from kd_lightning.data.loader import Batch
from kd_lightning.data.normalize import IMAGENET, Normalization
from kd_lightning.errors import UserError
from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.losses import (
    PKT,
    AttentionTransfer,
    FeatureRegression,
    LayerLoss,
    Loss,
    LossSum,
    Outputs,
    SoftTargets,
    Targets,
)
from kd_lightning.networks.weights import save_weights
from kd_lightning.tasks import Distill
from kd_lightning.teacher import Teacher, TeacherTargets, cache, cache_outputs, table
from kd_lightning.teacher.cache import CacheRequest
from kd_lightning.teacher.table import Storage, TableFile

NAMES = tuple(f"shade {i}" for i in range(4))
OTHER = Normalization((0.3, 0.4, 0.5), (0.2, 0.3, 0.1))
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))


def teacher_of_a_file(
    folder: Path, seed: int = 5, size: int = 8, names: tuple[str, ...] = NAMES, normalization: Normalization = OTHER
) -> Teacher:
    """Return a teacher whose file says other things than the data."""
    torch.manual_seed(seed)
    network = TinyNetwork(image_size=size)
    info = ModelInfo(network.class_path, network.arguments, names, normalization.mean, normalization.std, size)
    save_weights(folder / "teacher.pth", network, info)
    return Teacher(TinyNetwork(), str(folder / "teacher.pth"))


def tiny_data(**options: Any) -> TinyDataModule:
    data = TinyDataModule(**{"augment": [RandomCrop(padding=1)], "views": 2, "val_size": 20, **options})
    data.setup("fit")
    return data


def pixels(data: TinyDataModule) -> Tensor:
    """Return the training images as the source has them, (N, C, H, W)."""
    return data.split("train").images.permute(0, 3, 1, 2)


def test_a_teacher_gets_images_in_the_normalization_that_its_file_says(tmp_path: Path) -> None:
    teacher, data = teacher_of_a_file(tmp_path), tiny_data()
    assert teacher.adapt(data) == ["normalizes images as its file says"]
    expected = teacher.network(OTHER.apply(pixels(data)))
    assert torch.allclose(teacher(data.normalization.apply(pixels(data))), expected, rtol=0, atol=1e-5)


def test_images_for_a_bare_state_dict_are_normalized_as_the_user_says(tmp_path: Path) -> None:
    torch.manual_seed(5)
    torch.save(TinyNetwork().state_dict(), tmp_path / "bare.pth")
    data, images = tiny_data(), pixels(tiny_data())
    for given, expected in ((OTHER, OTHER), (None, Normalization(*IMAGENET))):
        teacher = Teacher(TinyNetwork(), str(tmp_path / "bare.pth"), normalization=given)
        (done,) = teacher.adapt(data)
        assert f"by mean {expected.mean[0]}, " in done
        assert torch.allclose(
            teacher(data.normalization.apply(images)), teacher.network(expected.apply(images)), rtol=0, atol=1e-5
        )
    teacher_of_a_file(tmp_path)
    with pytest.raises(UserError, match="contains its own normalization"):
        Teacher(TinyNetwork(), str(tmp_path / "teacher.pth"), normalization=OTHER)
    with pytest.raises(UserError, match="there are no weights"):
        Teacher(TinyNetwork(), normalization=OTHER)


def targets_of(teacher: Teacher, losses: dict[str, Loss]) -> TeacherTargets:
    targets = teacher.targets(losses)
    LossSum(losses, teacher.extractor(losses).shapes, targets.shapes_of)  # builds them
    return targets


def test_a_teacher_gets_images_of_the_size_that_its_file_says(tmp_path: Path) -> None:
    teacher, data = teacher_of_a_file(tmp_path, size=16), tiny_data()
    assert teacher.adapt(data)[1:] == ["sees images of 16 pixels"]
    assert teacher.network.image_size == 16
    assert targets_of(teacher, {"maps": FeatureRegression("features")}).shapes_of("maps")["features"] == (4, 8, 8)
    large = functional.interpolate(pixels(data).float(), size=16, mode="bilinear", antialias=True)
    expected = teacher.network(OTHER.apply(large))
    assert torch.allclose(teacher(data.normalization.apply(pixels(data))), expected, rtol=0, atol=1e-5)


def test_a_teachers_classes_are_put_in_the_datas_order_and_others_are_refused(tmp_path: Path) -> None:
    data = tiny_data(normalize=OTHER)
    teacher = teacher_of_a_file(tmp_path, names=("shade 2", "shade 0", "shade 3", "shade 1"))
    assert teacher.adapt(data) == ["has its classes put in the data's order"]
    images = OTHER.apply(pixels(data))
    assert torch.equal(teacher(images), teacher.network(images)[:, [1, 3, 0, 2]])
    with pytest.raises(UserError, match="a class that is called 'cat'"):
        teacher_of_a_file(tmp_path, names=("cat", *NAMES[1:])).adapt(data)


def test_a_teachers_layer_that_gives_the_logits_is_put_in_the_datas_order_with_them(tmp_path: Path) -> None:
    data = tiny_data(normalize=OTHER)
    teacher = teacher_of_a_file(tmp_path, names=("shade 2", "shade 0", "shade 3", "shade 1"))
    images = OTHER.apply(pixels(data))
    for _ in range(2):  # the second time by a teacher that has been put in order before
        losses: dict[str, Loss] = {"pkt": PKT("head"), "early": FeatureRegression("features")}
        targets = targets_of(teacher, losses)
        teacher.adapt(data)
        found = targets.compute(images)
        assert torch.equal(found.targets["pkt"]["head"], teacher.network(images)[:, [1, 3, 0, 2]])
        assert torch.equal(found.targets["early"]["features"], teacher.network.get_submodule("features")(images))


@pytest.mark.parametrize("precision", ["bf16-true", "16-true"])
def test_a_teacher_of_another_image_size_works_in_half_precision(precision: Any, tmp_path: Path) -> None:
    task = Distill(TinyNetwork(), teacher_of_a_file(tmp_path, size=16), {"kd": SoftTargets()}, cache_teacher=False)
    trainer = quick_trainer(precision=precision)
    trainer.fit(task, datamodule=TinyDataModule())
    teacher, data = task.teacher.float(), tiny_data()
    half = data.normalization.apply(pixels(data)).to(torch.bfloat16)
    assert torch.allclose(teacher(half.float()), teacher.to(torch.bfloat16)(half).float(), atol=0.1)
    assert torch.isfinite(trainer.callback_metrics["train/kd"])


class Scaled(LayerLoss):
    """Keeps something else under a layer's name than what the layer gives."""

    def teacher_target(self, teacher: Outputs) -> Targets:
        return {"features": 30 * teacher.maps["features"]}

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        return functional.mse_loss(student, teacher)


def some_losses(names: str) -> dict[str, Loss]:
    losses: dict[str, Loss] = {"kd": SoftTargets(), "maps": FeatureRegression("features"), "own": Scaled("features")}
    return {name: losses[name] for name in names.split()}


@pytest.mark.parametrize(
    ("file", "losses", "kept"),
    [
        ({}, "kd maps own", "in memory"),
        ({"size": 16}, "own maps", "on the disk"),
        ({"names": NAMES[::-1]}, "maps own", "since an earlier run"),
        ({"size": 16, "names": NAMES[::-1]}, "own kd maps", "in memory"),
    ],
)
def test_cached_targets_of_each_loss_are_those_that_it_computes(
    file: dict[str, Any], losses: str, kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, data = teacher_of_a_file(tmp_path, **file), tiny_data()
    teacher.adapt(data)
    if kept == "on the disk":
        monkeypatch.setattr(cache, "choose_storage", lambda *_: Storage.DISK)
    if kept == "since an earlier run":
        monkeypatch.setattr(cache, "KEPT_FROM", -1.0)
        cache_outputs(CacheRequest(targets_of(teacher, some_losses("own")), data, (), CPU))  # its key means another
        assert len(list(tmp_path.rglob("teacher-*.bin"))) == 1
    targets = targets_of(teacher, some_losses(losses))
    cache_outputs(CacheRequest(targets, data, (), CPU))
    _, rows = data.train_rows()
    raw, labels = pixels(data)[rows], data.split("train").labels[rows]
    for number in range(2):
        images = data.normalization.apply(data.seen_views.show(raw, labels, rows, number))
        found = targets(Batch(images, labels, rows, torch.full_like(rows, number))).targets
        for name, live in targets.compute(images).targets.items():
            assert live.keys() == found[name].keys()
            for key, values in live.items():
                assert torch.allclose(found[name][key], values, rtol=0, atol=1e-4), (name, key)


def tables(folder: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> set[str]:
    """Return the names of the tables that a fit saves, which contain their keys."""
    own = folder / f"cache {len(list(folder.iterdir()))}"
    monkeypatch.setenv("XDG_CACHE_HOME", str(own))
    monkeypatch.setattr(cache, "KEPT_FROM", -1.0)
    power, weight, width = (changes.pop(name, value) for name, value in (("power", 2), ("weight", 1), ("width", 2)))
    data = {"count": 40, "augment": [RandomCrop(padding=1)], "views": 2, "normalize": "auto"}
    data |= {name: changes.pop(name) for name in list(changes) if name in (*data, "batch_size", "shuffle_seed")}
    teacher = teacher_of_a_file(folder, **changes)
    loss = AttentionTransfer(["features"], power=power, weight=weight)
    task = Distill(TinyNetwork(width=width), teacher, {"maps": loss}, cache_teacher=True)
    train(lambda fast: task, False, data, max_epochs=1, limit_train_batches=1, limit_val_batches=0)
    return {path.name for path in own.rglob("teacher-*.bin")}


@pytest.mark.parametrize("unchanged", [True, False], ids=["the same", "another"])
def test_a_tables_key_changes_with_what_its_values_depend_on_and_with_nothing_else(
    unchanged: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tables(tmp_path, monkeypatch)
    assert len(first) == 1
    depends: list[dict[str, Any]] = [
        {"seed": 6},
        {"normalization": Normalization(OTHER.mean, (0.2, 0.3, 0.2))},
        {"size": 16},
        {"names": NAMES[::-1]},
        {"normalize": "imagenet"},
        {"count": 44},
        {"views": 3},
        {"augment": [RandomCrop(padding=2)]},
        {"power": 3},
    ]
    others: list[dict[str, Any]] = [{"shuffle_seed": 7}, {"batch_size": 8}, {"weight": 3}, {"width": 3}]
    for change in others if unchanged else depends:
        assert (tables(tmp_path, monkeypatch, **change) == first) == unchanged, change


def test_the_least_recently_used_tables_are_removed_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "MAX_BYTES", 10_000)
    files = [TableFile(str(number), (1000,), torch.float32) for number in range(3)]
    for age, file in enumerate(files[:2]):
        file.write([torch.zeros(1000)])
        os.utime(file.path, (1000 + age, 1000 + age))
    assert files[0].read() is not None  # now it is the second one that was used longest ago
    files[2].write([torch.zeros(1000)])
    assert [file.path.exists() for file in files] == [True, False, True]
    monkeypatch.setattr(table, "MAX_BYTES", 10)
    TableFile("large", (1000,), torch.float32).write([torch.zeros(1000)])
    assert [path.name for path in files[0].path.parent.glob("*.bin")] == ["teacher-large.bin"]
