"""Unlabelled images: how batches mix them with labelled ones, and the folder that they come from."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import PartlyLabelled

from kd_lightning.commands.data import describe
from kd_lightning.data.image_folder import ImageFolderDataModule
from kd_lightning.data.normalize import channel_statistics
from kd_lightning.data.unlabelled import PASS, MixedLoader, MixedSampler, batch_counts
from kd_lightning.errors import UserError

LABELS = torch.tensor([0, -1, 1, -1, -1, -1, 2, -1, -1, -1])  # 3 with a label, 7 without


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def sampler(counts: tuple[int, int], **options: int) -> MixedSampler:
    return MixedSampler(torch.arange(10), LABELS, counts, seed=3, **options)


def test_each_batch_has_fixed_numbers_of_both_and_an_epoch_passes_over_the_set_that_takes_more_batches() -> None:
    mixed = sampler((2, 2))
    assert (mixed.batches, len(mixed)) == (4, 16)  # 7 unlabelled images, two in a batch
    for batch in (mixed.ordered() % PASS).split(4):
        assert (LABELS[batch] < 0).tolist() == [False, False, True, True]
    assert sampler((1, 6)).batches == 3  # 3 labelled images, one in a batch


def test_all_images_of_a_set_are_seen_equally_often_and_each_pass_over_them_is_complete() -> None:
    mixed = sampler((2, 2))
    seen = []
    for epoch in range(7):
        mixed.set_epoch(epoch)
        seen.append(mixed.ordered())
    together = torch.cat(seen)
    rows, passes = together % PASS, together // PASS
    for has_label in (True, False):
        own = (LABELS[rows] >= 0) == has_label
        count = int(((LABELS >= 0) == has_label).sum())
        for number in range(7 * 8 // count):  # eight of each in an epoch
            assert len(rows[own & (passes == number)].unique()) == count, number
    mixed.set_epoch(2)
    assert torch.equal(mixed.ordered(), seen[2])


def test_two_processes_share_what_one_would_see() -> None:
    parts = [sampler((2, 2), rank=rank, world_size=2).ordered() for rank in range(2)]
    assert [len(part) for part in parts] == [8, 8]
    assert sorted(torch.cat(parts).tolist()) == sorted(sampler((4, 4)).ordered().tolist())


@pytest.mark.parametrize(("share", "expected"), [(None, (16, 112)), (0.5, (64, 64)), (0.001, (1, 127))])
def test_a_batch_has_the_stated_share_of_labelled_images(share: float | None, expected: tuple[int, int]) -> None:
    assert batch_counts(LABELS, 128, share) == expected
    assert batch_counts(LABELS[:1] - 1, 128, share) == (0, 128)


def test_a_loader_serves_labels_of_the_first_images_only_and_each_image_its_own_epoch() -> None:
    data = PartlyLabelled(count=60, batch_size=8)
    loader = data.train_dataloader()
    assert isinstance(loader, MixedLoader)
    everything = data.split("train")
    for batch in loader:
        assert len(batch.images) == 8
        assert torch.equal(batch.images, everything.images[batch.rows])
        assert torch.equal(batch.labels, everything.labels[batch.rows[:1]])
        assert (everything.labels[batch.rows] < 0).tolist() == [False] + 7 * [True]
        assert batch.epochs is not None
        assert batch.epochs[0] == 0  # an epoch is one pass over the labelled images, which takes more batches
    assert batch.epochs is not None
    assert batch.epochs[-1] == (len(loader) * 7 - 1) // 40


def test_validation_images_are_split_off_the_labelled_ones() -> None:
    data = PartlyLabelled(count=120, val_size=0.1)
    (images, labels), rows = data.train_rows()
    assert (len(rows), data.num_unlabelled) == (116, 80)
    assert (labels[data.val_rows()[1]] >= 0).all()
    assert set(rows.tolist()) | set(data.val_rows()[1].tolist()) == set(range(120))
    assert data.normalization == channel_statistics(images)


def write_images(folder: Path, count: int, red: int) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        Image.fromarray(np.full((8, 8, 3), (red, number, number), np.uint8)).save(folder / f"{number}.png")


def photos(root: Path, *splits: str) -> Path:
    for place, split in enumerate(splits):
        for label, name in enumerate(("ant", "bee")):
            write_images(root / split / name, 3, 10 * place + label)
    write_images(root / "unlabelled" / "a" / "b", 4, 100)
    write_images(root / "unlabelled" / "c", 5, 101)
    return root


def folder(root: Path, **options: object) -> ImageFolderDataModule:
    return ImageFolderDataModule(str(root), image_size=8, **{"unlabelled": str(root / "unlabelled"), **options})


@pytest.mark.parametrize("splits", [("train", "test"), ("train",), ("",)], ids=["test", "no test", "classes alone"])
def test_images_of_any_tree_train_without_labels(splits: tuple[str, ...], tmp_path: Path) -> None:
    data = folder(photos(tmp_path / "photos", *splits), val_size=0, test_size=2)
    assert data.class_names == ("ant", "bee")
    (images, labels), rows = data.train_rows()
    unlabelled = images[rows[labels[rows] < 0], 0, 0]
    assert sorted(unlabelled[:, :2].tolist()) == [[100, n] for n in range(4)] + [[101, n] for n in range(5)]
    assert len(rows) == (15 if len(splits) > 1 else 13)
    assert len(data.test_rows()[1]) == (6 if len(splits) > 1 else 2)
    with pytest.warns(UserWarning, match=r"unlabelled is not used; --data\.unlabelled trains on its images, too\.$"):
        assert folder(tmp_path / "photos", unlabelled=None).class_names == ("ant", "bee")
    assert any(line.split() == ["unlabelled", "9", "0"] for line in describe(data))


def test_without_any_label_the_classes_are_those_of_the_test_images(tmp_path: Path) -> None:
    data = folder(photos(tmp_path / "photos", "test"))
    assert (data.class_names, data.has_val) == (("ant", "bee"), False)
    assert (len(data.train_rows()[1]), data.num_unlabelled, len(data.test_rows()[1])) == (9, 9, 6)
    assert folder(photos(tmp_path / "others", "val", "test")).has_val


def test_a_broken_unlabelled_image_is_skipped_or_stops_as_any_other(tmp_path: Path) -> None:
    root = photos(tmp_path / "photos", "train", "test")
    (root / "unlabelled" / "c" / "0.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"c/0\.png"):
        folder(root).setup("fit")
    data = folder(root, on_broken="skip", val_size=0)
    with pytest.warns(UserWarning, match="1 of 21 images cannot be read"):
        data.setup("fit")
    assert data.num_unlabelled == 8


def test_a_folder_that_would_count_twice_is_empty_or_missing_is_refused_in_one_sentence(tmp_path: Path) -> None:
    root = photos(tmp_path / "photos", "train", "test")
    (tmp_path / "none").mkdir()
    for place, message in (
        (root, r"^--data\.unlabelled .* holds .*(ant|bee), whose images count for a class or a split already; .*\.$"),
        (tmp_path / "none", r"^--data\.unlabelled .* holds no images; add some or leave the option out\.$"),
        (tmp_path / "nowhere", r"^there is no folder .*nowhere; "),
    ):
        with pytest.raises(UserError, match=message):
            folder(root / "train", unlabelled=str(place)).setup("fit")


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(UserError, match=r"^labelled_share .* must be above 0 and below 1: .*--data\.labelled_share"):
        PartlyLabelled(labelled_share=share)


def test_a_batch_of_one_image_cannot_hold_both() -> None:
    with pytest.raises(UserError, match="batch_size is 1, which has no room"):
        PartlyLabelled(batch_size=1).train_dataloader()


def test_runs_with_and_without_unlabelled_images_keep_a_cache_each(tmp_path: Path) -> None:
    root = photos(tmp_path / "photos", "train", "test")
    for _ in range(2):
        folder(root, val_size=0).setup("fit")
        with pytest.warns(UserWarning, match="is not used"):
            folder(root, unlabelled=None, val_size=0).setup("fit")
        assert len(list((tmp_path / "cache").rglob("*.npy"))) == 2
