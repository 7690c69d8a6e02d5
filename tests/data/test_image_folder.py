import os
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from difficult_images import write_difficult_images
from lightning.pytorch import Trainer
from PIL import Image
from sklearn.datasets import load_digits

from kd_lightning.data import read_ahead
from kd_lightning.data.image_folder import ImageFolderDataModule
from kd_lightning.data.loader import LabelledImages
from kd_lightning.data.normalize import channel_statistics
from kd_lightning.errors import UserError
from kd_lightning.networks import LightNN
from kd_lightning.tasks import Classifier

CLASSES = ("ant", "bee", "cat")


@pytest.fixture(autouse=True)
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def write_split(folder: Path, counts: dict[str, int], start: int = 0) -> None:
    """Write images whose red is the class and whose green is a unique number."""
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(start, start + count):
            pixels = np.full((8, 8, 3), (CLASSES.index(name), number, 0), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


def module(root: Path, **options: object) -> ImageFolderDataModule:
    return ImageFolderDataModule(str(root), image_size=8, **options)


def numbers(data: LabelledImages, rows: torch.Tensor) -> set[tuple[int, int]]:
    """Return class and number of the images in these rows, after checking that the labels agree."""
    pixels = data.images[rows][:, 0, 0]
    assert pixels[:, 0].tolist() == data.labels[rows].tolist()
    return {(red, green) for red, green, _ in pixels.tolist()}


def test_images_lie_in_their_splits_with_the_labels_of_their_folders(tmp_path: Path) -> None:
    write_split(tmp_path / "data" / "train", {"bee": 4, "cat": 2, "ant": 3})
    write_split(tmp_path / "data" / "test", {"cat": 1, "ant": 2}, start=50)
    write_split(tmp_path / "data" / "val", {"bee": 2}, start=90)
    data = module(tmp_path / "data")
    assert data.class_names == CLASSES
    assert (data.num_classes, data.in_channels, data.image_size, data.name) == (3, 3, 8, "data")
    assert data.has_val
    assert numbers(*data.train_rows()) == {(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (1, 3), (2, 0), (2, 1)}
    assert numbers(*data.test_rows()) == {(0, 50), (0, 51), (2, 50)}
    assert numbers(*data.val_rows()) == {(1, 90), (1, 91)}


def test_classes_are_in_the_order_of_their_names_and_hidden_folders_are_ignored(tmp_path: Path) -> None:
    names = ("ant", "ant eater", "ant-lion", "Bee", "10", "9", ".trash")
    assert module(folders(tmp_path / "data", *names)).class_names == ("10", "9", "Bee", "ant", "ant eater", "ant-lion")


def test_without_a_test_folder_a_stratified_part_is_split_off_that_is_never_trained_on(tmp_path: Path) -> None:
    write_split(tmp_path / "data" / "train", {"ant": 50, "bee": 100})
    data = module(tmp_path / "data", val_size=0.1)
    train, val, test = (numbers(*rows()) for rows in (data.train_rows, data.val_rows, data.test_rows))
    assert [len(part) for part in (train, val, test)] == [108, 12, 30]
    assert len(train | val | test) == 150
    assert sum(label for label, _ in test) == 20  # bees
    assert sum(label for label, _ in val) == 8
    assert numbers(*module(tmp_path / "data", val_size=0.1).test_rows()) == test
    assert numbers(*module(tmp_path / "data", split_seed=1).test_rows()) != test


def test_test_images_do_not_count_in_the_statistics_of_the_training_images(tmp_path: Path) -> None:
    write_split(tmp_path / "data" / "train", {"ant": 50, "bee": 50})
    for path in (tmp_path / "data").rglob("*.png"):
        noise = np.random.default_rng(int(path.stem)).integers(256, size=(8, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
    data = module(tmp_path / "data", val_size=0)
    images, rows = data.train_rows()
    assert len(images.labels) == len(rows) == 80
    assert data.normalization == channel_statistics(images.images[rows])


def test_broken_images_of_all_splits_stop_the_run_or_are_left_out(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_split(root / "train", {"ant": 2})
    difficult = write_difficult_images(root / "train" / "bee")
    write_split(root / "test", {"ant": 2}, start=50)
    (root / "test" / "ant" / "0.png").write_bytes(b"")
    with pytest.raises(UserError, match=f"{len(difficult.broken) + 1} of .*images cannot be read:") as caught:
        module(root).prepare_data()
    assert all(str(path) in str(caught.value) for path in [*difficult.broken, root / "test" / "ant" / "0.png"])
    data = module(root, on_broken="skip", val_size=0)
    with pytest.warns(UserWarning, match=f"{len(difficult.broken) + 1} of .* images cannot be read and are left out"):
        data.prepare_data()
    assert data.train_rows()[0].labels.tolist() == [0] * 2 + [1] * len(difficult.good)
    assert numbers(*data.test_rows()) == {(0, 50), (0, 51)}
    assert len(data.broken) == len(difficult.broken) + 1


@pytest.mark.parametrize("name", [b"\x1b[31m", b"caf\xe9"])
def test_a_class_folder_whose_name_cannot_be_shown_is_refused_at_once(tmp_path: Path, name: bytes) -> None:
    root = folders(tmp_path / "data", "train/ant/1.png", "train/bee/1.png", f"train/{os.fsdecode(name)}/1.png")
    with pytest.raises(UserError, match=r"the class name .* rename the class or its folder"):
        module(root)


def test_a_broken_file_that_is_left_out_is_named_without_terminal_escapes(tmp_path: Path) -> None:
    write_split(tmp_path / "data", {"ant": 4, "bee": 4})
    (tmp_path / "data" / "bee" / "\x1b[31m\n.png").write_bytes(b"")
    with pytest.warns(UserWarning, match="1 of 9 images") as warned:
        module(tmp_path / "data", on_broken="skip").prepare_data()
    assert r"\x1b[31m\n.png: the file is empty" in str(warned[0].message)
    with pytest.raises(UserError, match="1 of 9 images") as caught:
        module(tmp_path / "data").prepare_data()
    assert r"\x1b[31m\n.png: the file is empty" in str(caught.value)


@pytest.mark.filterwarnings("ignore:.*images cannot be read")
@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("train/bee", r"the training images lack 1 of 2 classes \(bee\)"),
        ("test/ant", "no test image in .*test can be read"),
    ],
)
def test_a_class_or_split_whose_images_are_all_broken_is_named(tmp_path: Path, folder: str, message: str) -> None:
    write_split(tmp_path / "data" / "train", {"ant": 9, "bee": 9})
    write_split(tmp_path / "data" / "test", {"ant": 1}, start=50)
    for path in (tmp_path / "data" / folder).iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match=message):
        module(tmp_path / "data", on_broken="skip").prepare_data()


def folders(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch() if "." in name else (root / name).mkdir(parents=True)
    return root


TWO = ("train/ant/1.png", "train/bee/1.png")


@pytest.mark.parametrize(("train", "val"), [("train", "valid"), ("Training", "DEV"), ("train_set", "Validation")])
def test_usual_spellings_of_the_splits_are_understood(tmp_path: Path, train: str, val: str) -> None:
    root = tmp_path / "data"
    for number, name in enumerate((train, val, "Testing")):
        write_split(root / name, {"ant": 1, "bee": 1}, start=number)
    folders(root, "README.txt", ".cache", "lightning_logs")
    data = module(root)
    assert data.has_val
    parts = (data.train_rows, data.val_rows, data.test_rows)
    assert [numbers(*rows()) for rows in parts] == [{(0, number), (1, number)} for number in range(3)]


def test_images_beside_the_splits_and_splits_beside_the_root_are_named(tmp_path: Path) -> None:
    root = folders(tmp_path / "data", *TWO, "cover.png", "test/ant/1.png", "train/notes.txt")
    with pytest.warns(UserWarning, match=r"data holds cover\.png beside train; images there are not used"):
        module(root)
    with pytest.warns(UserWarning, match=r"data/train lies beside test, .* --data\.root .*data takes all splits"):
        module(root / "train")


def test_a_class_may_be_called_like_a_split_among_others(tmp_path: Path) -> None:
    assert module(folders(tmp_path / "data", *TWO, "train/train/1.png")).class_names == ("ant", "bee", "train")


@pytest.mark.parametrize(
    ("link", "target", "message"),
    [
        ("train/ant/up", "..", "the link .*train/ant/up leads to .*data/train, which holds it"),
        ("train/ant/more", "../bee/deep", "train/bee/deep and .*train/ant/more are the same folder"),
        ("train/bee/more", "../../test/ant", "train/bee/more and .*test/ant are the same folder"),
        ("train/cat", "ant", "train/cat and .*train/ant are the same folder"),
        ("val", "train", "val/ant and .*train/ant are the same folder"),
        ("train/ant/broken", "nowhere", "the link .*train/ant/broken leads nowhere"),
        ("val", "nowhere", "the link .*data/val leads nowhere"),
    ],
)
def test_a_link_that_leads_from_one_class_or_split_to_another_is_refused(
    tmp_path: Path, link: str, target: str, message: str
) -> None:
    root = folders(tmp_path / "data", *TWO, "train/bee/deep/2.png", "test/ant/1.png")
    (root / link).symlink_to(target)
    with pytest.raises(UserError, match=message):
        module(root).prepare_data()


def test_links_to_images_elsewhere_are_followed(tmp_path: Path) -> None:
    write_split(tmp_path / "pool", {"ant": 2, "bee": 2})
    write_split(tmp_path / "other", {"bee": 2}, start=5)
    write_split(tmp_path / "data" / "test", {"ant": 1})
    (tmp_path / "data" / "train").symlink_to(tmp_path / "pool")
    (tmp_path / "pool" / "bee" / "more").symlink_to(tmp_path / "other" / "bee")
    (tmp_path / "pool" / "ant" / "again").symlink_to(".")
    (tmp_path / "pool" / "ant" / "2.png").symlink_to("1.png")
    assert numbers(*module(tmp_path / "data", val_size=0).train_rows()) == {
        *((0, 0), (0, 1), (1, 0), (1, 1), (1, 5), (1, 6))
    }


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "there is no folder .*data.root"),
        (("notes.txt",), r"must hold train/CLASS/IMAGE .* but it holds notes\.txt"),
        (("test/ant/1.png", "test/bee/1.png"), "must hold train/CLASS/IMAGE .* but it holds test/"),
        (("train/ant/1.png",), "two classes or more"),
        (("photos/train/ant/1.png", "photos/train/bee/1.png"), "two classes or more, but it holds photos/"),
        (("train/1.png", "train/2.png"), "must hold train/CLASS/IMAGE"),
        (("train/ant/1.png", "train/bee/1.png", "test/cow/1.png"), "holds cow, but .* no class of that name"),
        ((*TWO, "valid/ant/1.png", "val/ant/1.png"), "holds val and valid, which both mean val; keep one"),
        ((*TWO, "holdout/ant/1.png", "extra"), "holds extra, holdout beside train, which would not be seen"),
        ((*TWO, "train/3.png"), r"train holds 3\.png in no class folder"),
        (("train/train/ant/1.png", "train/train/bee/1.png"), "as in --data.root .*data/train"),
        (("photos/train/ant/1.png", "photos/train/bee/1.png"), "as in --data.root .*data/photos"),
        (("photos/ant/1.png", "photos/bee/1.png"), r"as in --data.root \S*data/photos\."),
    ],
)
def test_a_wrong_layout_is_described_at_once(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        module(folders(tmp_path / "data", *names))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("train/ant/1.png", "train/bee/notes.txt"), "the class folder .*bee holds no images"),
        (("train/ant/1.png", "train/bee/1.png", "val/notes.txt"), "val holds no class folders"),
        (
            ("ant/train/1.png", "ant/test/1.png", "bee/train/1.png"),
            "ant holds test, train, but splits hold",
        ),
        (("one/train/ant/1.png", "two/train/ant/1.png"), "one holds train, but splits hold the classes"),
        (("train/ant/1.png", "train/bee/1.png"), "2 images are too few to split off"),
        (
            ("train/ant/1.png", "train/bee/1.heic"),
            r"bee holds no images; 1 file in .* is left out: 1 \.heic; .* convert",
        ),
        (
            ("seg_test/seg_test/ant/1.png", "seg_train/seg_train/ant/1.png", "seg_pred/seg_pred/2.png"),
            r"seg_train holds no images itself, .* give --data\.root \S*data/seg_train/seg_train, or",
        ),
        (("fold1/ant/1.png", "fold1/bee/2.png", "fold2/ant/3.png"), r"\(ant, bee\): .* --data\.root \S*data/fold1, or"),
        (
            ("ant/1.png", "bee/2021/2.png", "bee/2022/3.png"),
            r"\(2021, 2022\): .*; if bee is a class, move its images up",
        ),
    ],
)
def test_missing_images_are_named_before_decoding(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        module(folders(tmp_path / "data", *names)).prepare_data()


def test_folders_in_a_class_folder_that_has_images_of_its_own_count_for_the_class(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_split(root / "train", {"ant": 2, "bee": 2})
    write_split(root / "train" / "bee" / "more", {"bee": 2}, start=5)
    write_split(root / "test", {"ant": 1, "bee": 1}, start=9)
    assert numbers(*module(root, val_size=0).train_rows()) == {(0, 0), (0, 1), (1, 0), (1, 1), (1, 5), (1, 6)}


def test_files_that_are_left_out_are_counted_in_one_line(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_split(root, {"ant": 9, "bee": 9})
    for name in ("ant/1.heic", "bee/2.heic", "bee/3.dng", "bee/notes.txt"):
        (root / name).write_bytes(b"\0")
    Image.fromarray(np.full((8, 8, 3), 1, np.uint8)).save(root / "bee" / "without_ending", "PNG")
    with pytest.warns(
        UserWarning, match=r"4 files in .*data are left out: 2 \.heic, 1 \.dng, 1 \.txt; .* convert"
    ) as warned:
        read = module(root).train_rows()[0]
    assert len(read.labels) == 15
    assert sum("left out" in str(warning.message) for warning in warned) == 1


def test_test_and_validation_images_that_lack_classes_are_reported(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_split(root / "train", {"ant": 9, "bee": 9, "cat": 9})
    write_split(root / "test", {"ant": 1}, start=50)
    write_split(root / "val", {"ant": 1, "bee": 1}, start=60)
    data = module(root)
    with pytest.warns(UserWarning, match=r"the test images lack 2 of 3 classes \(bee, cat\)"):
        data.prepare_data()
    with pytest.warns(UserWarning, match=r"the validation images lack 1 of 3 classes \(cat\)"):
        data.val_rows()


def test_test_images_that_are_training_images_are_found_by_their_pixels(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_split(root / "train", {"ant": 5, "bee": 5})
    write_split(root / "test", {"ant": 5, "bee": 5}, start=3)
    (root / "test" / "ant" / "0.png").write_bytes(b"")
    with pytest.warns(
        UserWarning, match=r"4 of 10 test images are training images, too, .*ant/3\.png is .*ant/3\.png;"
    ):
        module(root, on_broken="skip").prepare_data()
    for path in (root / "test").rglob("[34].png"):
        path.unlink()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*are training images, too")
        module(root, on_broken="skip").prepare_data()


def test_a_value_out_of_range_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"set --data\.test_size"):
        module(folders(tmp_path / "data", "ant/1.png", "bee/1.png"), test_size=-1)


@pytest.mark.filterwarnings("ignore:The number of training batches")
def test_real_digits_written_as_pngs_train_in_grey(tmp_path: Path) -> None:
    digits = load_digits()
    for number, (pixels, label) in enumerate(zip(digits.images[:400], digits.target[:400], strict=True)):
        folder = tmp_path / "digits" / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 255 / 16).astype(np.uint8)).save(folder / f"{number}.png")
    data = module(tmp_path / "digits", channels=1, batch_size=32)
    network = LightNN(data.num_classes, data.in_channels, data.image_size)
    task = Classifier(network, optimizer=partial(torch.optim.Adam, lr=1e-2))
    trainer = Trainer(
        max_epochs=4,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(task, datamodule=data)
    assert trainer.test(task, datamodule=data, verbose=False)[0]["test/accuracy"] > 0.7


def test_training_reads_the_cache_row_by_row_and_copies_none_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_split(tmp_path / "data", {"ant": 20, "bee": 20})
    monkeypatch.setattr(read_ahead, "SMALL", 0)
    data = module(tmp_path / "data", batch_size=8)
    loader = data.train_dataloader()
    first = data.split("train").images
    assert loader.data.images.data_ptr() == first.data_ptr() == data._decoded.images.ctypes.data
    assert isinstance(data._decoded.images, np.memmap)
    requested: list[list[int]] = []
    monkeypatch.setattr(loader, "read_ahead", lambda rows: requested.append(rows.tolist()))
    assert [batch.rows.tolist() for batch in loader] == requested
