import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zlib import crc32

import pytest
import torch
from filelock import FileLock
from lightning.pytorch import Callback, Trainer, seed_everything
from tiny import TinyDataModule, TinyNetwork, tiny_images
from torch import Tensor

from kd_lightning.data.augment import Augmentation, HorizontalFlip, Mixup, RandomCrop
from kd_lightning.data.loader import LabelledImages
from kd_lightning.data.source import Split
from kd_lightning.errors import UserError
from kd_lightning.machine import progress
from kd_lightning.networks import DeepNN, LightNN
from kd_lightning.tasks import CosineDistill, FeatureRegressDistill
from kd_lightning.tasks.distill import Distill
from kd_lightning.teacher import Teacher, cache, cached_rows, table, when_cached
from kd_lightning.teacher.table import Storage, TableFile, choose_storage

Kind = type[CosineDistill] | type[FeatureRegressDistill]


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    return tmp_path / "caches" / "kd_lightning"


class CountingTeacher(Teacher):
    """Counts the images that it sees while it trains and while it validates."""

    seen = 0

    def forward(self, images: Tensor) -> Tensor:
        self.seen += len(images)
        logits: Tensor = super().forward(images)
        return logits


class OwnVal(TinyDataModule):
    """Has validation images of its own, whose rows are not those of the training images."""

    has_val = True

    def load(self, split: Split) -> LabelledImages | None:
        return tiny_images(30, self.classes, seed=2) if split == "val" else super().load(split)


def fit(
    kind: Kind,
    cache_teacher: Any,
    augment: Sequence[Augmentation] = (),
    data: Callable[..., TinyDataModule] = TinyDataModule,
    callbacks: Sequence[Callback] = (),
    teacher_seed: int = 5,
    **options: Any,
) -> tuple[Trainer, Distill]:
    torch.manual_seed(teacher_seed)
    teacher = CountingTeacher(DeepNN(num_classes=4, image_size=8))
    seed_everything(0, verbose=False)
    task = kind(LightNN(num_classes=4, image_size=8), teacher, cache_teacher=cache_teacher)
    teacher.seen = 0  # a blank image when the task was built
    settings = {
        "max_epochs": 1,
        "num_sanity_val_steps": 0,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
    }
    trainer = Trainer(
        accelerator="cpu", enable_model_summary=False, callbacks=list(callbacks), **{**settings, **options}
    )
    trainer.fit(task, datamodule=data(augment=augment, shuffle_seed=3))
    return trainer, task


def assert_same(one: tuple[Trainer, Distill], other: tuple[Trainer, Distill]) -> None:
    for mine, yours in zip(one[1].trained_parameters(), other[1].trained_parameters(), strict=True):
        assert torch.allclose(mine, yours, rtol=0, atol=1e-5)
    for name, value in one[0].callback_metrics.items():
        assert float(value) == pytest.approx(float(other[0].callback_metrics[name]), rel=1e-5), name


@pytest.mark.parametrize(
    ("kind", "augment", "values", "described"),
    [
        (CosineDistill, (), 2 * 2 * 16, "120 images, 0.0 MB"),
        (FeatureRegressDistill, (HorizontalFlip(),), 2 * 2 * 32, "120 images and their mirror images, 0.1 MB"),
    ],
    ids=["plain", "flips"],
)
def test_a_cached_and_a_live_teacher_give_the_same_weights_and_losses(
    kind: Kind, augment: Sequence[Augmentation], values: int, described: str, capsys: pytest.CaptureFixture[str]
) -> None:
    live, looked_up = fit(kind, False, augment, max_epochs=2), fit(kind, "auto", augment, max_epochs=2)
    assert_same(live, looked_up)
    rows = 120 * (1 + len(augment))
    assert [run[1].teacher.seen for run in (live, looked_up)] == [2 * 120, 64 + rows]
    assert looked_up[1].teacher_cache == (rows, rows * values * 4, Storage.MEMORY)  # only what the objective needs
    assert not looked_up[1].targets.tables  # dropped when training is over
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Teacher:")]
    assert lines == [f"Teacher: cached for {described} in memory; it runs once and not in every step."]


def test_validation_images_of_another_set_are_never_looked_up_among_the_training_images() -> None:
    live, looked_up = (fit(CosineDistill, cache_teacher, data=OwnVal) for cache_teacher in (False, True))
    assert_same(live, looked_up)
    assert looked_up[1].teacher.seen == 64 + 120 + 30


def test_a_teacher_that_sees_every_view_once_runs_in_every_step_and_the_reason_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, task = fit(CosineDistill, "auto", [HorizontalFlip(), RandomCrop(padding=1)])
    assert "Teacher: runs in every step; RandomCrop in --data.augment" in capsys.readouterr().out
    assert task.teacher.seen == 120
    with pytest.raises(UserError, match="cannot be cached: Mixup"):
        fit(CosineDistill, True, [HorizontalFlip(), Mixup()])


def test_auto_does_not_cache_more_than_the_fit_needs(capsys: pytest.CaptureFixture[str]) -> None:
    _, task = fit(CosineDistill, "auto", limit_train_batches=1, limit_val_batches=1)
    assert "fewer images than there are" in capsys.readouterr().out
    assert task.teacher.seen == 32 + 12


def test_the_test_images_are_shown_to_the_teacher_even_after_a_fit_that_broke_off() -> None:
    class Stop(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            raise ZeroDivisionError

    seed_everything(0, verbose=False)
    teacher = Teacher(TinyNetwork())
    task = CosineDistill(TinyNetwork(width=2), teacher, cache_teacher=True)
    options: dict[str, Any] = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    options |= {"enable_progress_bar": False, "enable_model_summary": False}
    with pytest.raises(ZeroDivisionError):
        Trainer(max_epochs=1, callbacks=[Stop()], **options).fit(task, datamodule=TinyDataModule())
    data = TinyDataModule(batch_size=7)
    measured = Trainer(**options).test(task, datamodule=data, verbose=False)[0]
    images = data.on_after_batch_transfer(next(iter(data.test_dataloader())), 0)
    right = (teacher(images.images).argmax(1) == images.labels).float().mean()
    assert measured["test/teacher_accuracy"] == pytest.approx(float(right))


def test_a_table_goes_to_memory_then_to_the_disk_then_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert table.free_memory() > 0
    monkeypatch.setattr(table, "free_memory", lambda: 1000)
    monkeypatch.setattr(table, "free_disk", lambda: 5000)
    assert choose_storage(500, cpu) is Storage.MEMORY
    assert choose_storage(500, cpu, processes=2) is Storage.DISK  # each has its own
    assert choose_storage(2500, cpu) is Storage.DISK
    assert choose_storage(2501, cpu) is None


def test_a_table_too_large_for_memory_is_read_from_the_disk_and_gives_the_same_weights(
    monkeypatch: pytest.MonkeyPatch, caches: Path
) -> None:
    in_memory = fit(FeatureRegressDistill, True)
    assert list(caches.glob("*.bin")) == []  # short computations are not saved
    monkeypatch.setattr(cache, "choose_storage", lambda *_: Storage.DISK)
    assert_same(in_memory, fit(FeatureRegressDistill, True))
    assert [path.stat().st_size for path in caches.glob("*.bin")] == [120 * 2 * 2 * 32 * 4 + 4]


def test_without_room_anywhere_the_teacher_runs_in_every_step(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caches: Path
) -> None:
    monkeypatch.setattr(cache, "choose_storage", lambda *_: None)
    fit(CosineDistill, "auto")
    assert "more than memory and disk have to spare" in capsys.readouterr().out
    monkeypatch.setattr(cache, "choose_storage", lambda *_: Storage.DISK)
    shutil.rmtree(caches)
    caches.write_text("a file where the folder would be")
    with pytest.raises(UserError, match="and not onto the disk: cannot write"):
        fit(CosineDistill, True)


def test_the_next_run_reads_the_saved_table_and_only_one_of_the_same_teacher_and_data(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caches: Path
) -> None:
    monkeypatch.setattr(cache, "KEPT_FROM", 0.0)
    first = fit(CosineDistill, True)
    second = fit(CosineDistill, True)
    (kept,) = caches.glob("*.bin")
    assert "since an earlier run" in capsys.readouterr().out
    assert second[1].teacher.seen == 64  # which were compared
    assert_same(first, second)

    other = fit(CosineDistill, True, teacher_seed=6)
    assert other[1].teacher.seen == 64 + 120
    (replaced,) = set(caches.glob("*.bin")) - {kept}

    zeros = bytes(replaced.stat().st_size - 4)
    replaced.write_bytes(zeros + crc32(zeros).to_bytes(4, "little"))  # as if the teacher's code had changed
    third = fit(CosineDistill, True, teacher_seed=6)
    assert third[1].teacher.seen == 64 + 120
    assert_same(other, third)


def test_a_run_waits_for_another_that_computes_the_same_tables_and_reads_them(
    monkeypatch: pytest.MonkeyPatch, caches: Path
) -> None:
    monkeypatch.setattr(cache, "KEPT_FROM", 0.0)
    monkeypatch.setattr(cache, "PATIENCE", 0.0)
    first = fit(CosineDistill, True)
    (table_file,), (lock_file,) = caches.glob("*.bin"), caches.glob("*.lock")
    elsewhere = table_file.rename(caches / "elsewhere")
    lock = FileLock(lock_file)
    lock.acquire()
    monkeypatch.setattr(cache, "_computed", lambda *_: pytest.fail("the teacher ran again"))

    def finish(line: str) -> None:
        """The other run ends as soon as this one says that it waits."""
        if "waits for another run, which computes the same outputs" in line:
            elsewhere.rename(table_file)
            lock.release()

    def cache_outputs(request: cache.CacheRequest, *_: Any, **options: Any) -> cache.TeacherCache:
        return original(request, 1, finish, **options)

    original = cache.cache_outputs
    monkeypatch.setattr(when_cached, "cache_outputs", cache_outputs)
    second = fit(CosineDistill, True)
    assert not lock.is_locked
    assert_same(first, second)


@pytest.mark.parametrize("at", [0, 4_000, 7_999, 8_003], ids=["first", "middle", "last", "checksum"])
def test_a_saved_table_with_a_changed_byte_is_not_read(caches: Path, at: int) -> None:
    values = torch.randn(200, 10)
    file = TableFile("key", (200, 10), torch.float32)
    file.write(values.split(64))
    kept = file.read()
    assert kept is not None
    assert torch.equal(kept, values)
    content = bytearray(file.path.read_bytes())
    content[at] ^= 1
    file.path.write_bytes(content)
    assert file.read() is None
    file.path.write_bytes(content[:-1])
    assert file.read() is None


def test_a_long_pass_prints_one_line_with_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = iter(range(0, 1000, 60))
    clock = SimpleNamespace(monotonic=lambda: next(seconds))
    monkeypatch.setattr(progress, "time", clock)
    monkeypatch.setattr(cached_rows, "IMAGES_AT_ONCE", 40)
    monkeypatch.setattr(cache, "choose_storage", lambda *_: Storage.DISK)
    fit(CosineDistill, True)
    shown = capsys.readouterr()
    assert shown.out.count("Teacher: ") == 1
    assert [line for line in shown.err.splitlines() if "Running" in line] == [
        "Running the teacher: 40 of 120, 2 min left"
    ]
