"""Tiny-ImageNet's layout, with few images."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from kd_lightning.data import TinyImageNetDataModule
from kd_lightning.errors import UserError

IDS = ("n03", "n01", "n02")


def write(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(path, "PNG")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the layout: the grey value of an image is ten times the place of its class, and more in the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = tmp_path / "tiny-imagenet-200"
    for at, one in enumerate(sorted(IDS)):
        for number in range(4):
            write(root / "train" / one / "images" / f"{one}_{number}.JPEG", 10 * at + number)
        (root / "train" / one / f"{one}_boxes.txt").write_text("a box")
    annotations = ["val_0.JPEG\tn02\t0\t0\t62\t57", "val_1.JPEG\tn01\t3\t3\t9\t9", "val_2.JPEG\tn03\t3\t3\t9\t9"]
    for number, value in enumerate((110, 100, 120)):
        write(root / "val" / "images" / f"val_{number}.JPEG", value)
    write(root / "test" / "images" / "test_0.JPEG", 200)
    (root / "val" / "val_annotations.txt").write_text("\n".join(annotations) + "\n")
    (root / "wnids.txt").write_text("\n".join(IDS))
    (root / "words.txt").write_text("n01\tgoldfish, Carassius auratus\nn02\tcrane\nn03\tcrane\nn04\tother\n")
    return root


def test_classes_are_sorted_and_test_images_have_the_labels_of_the_annotations(root: Path) -> None:
    data = TinyImageNetDataModule(str(root), image_size=8, val_size=0.25)
    assert data.class_names == ("goldfish", "crane (n02)", "crane (n03)")
    for rows, count in ((data.train_rows, 9), (data.val_rows, 3)):
        images, chosen = rows()
        assert len(chosen) == count
        assert torch.equal(images.images[chosen, 0, 0, 0] // 10, images.labels[chosen].to(torch.uint8))
    images, chosen = data.test_rows()
    assert images.images[chosen, 0, 0, 0].tolist() == [110, 100, 120]
    assert images.labels[chosen].tolist() == [1, 0, 2]
    assert TinyImageNetDataModule(str(root)).image_size == 64


def test_another_folder_is_refused_with_the_address(tmp_path: Path, root: Path) -> None:
    with pytest.raises(UserError, match=r"holds no wnids\.txt .*tiny-imagenet-200\.zip.*--data\.root"):
        TinyImageNetDataModule(str(tmp_path / "nowhere"))
    (root / "val" / "val_annotations.txt").write_text("../../secret.png\tn01\n")
    with pytest.raises(UserError, match=r"has the line '\.\./\.\./secret\.png n01'"):
        TinyImageNetDataModule(str(root), image_size=8).test_rows()
    (root / "words.txt").unlink()
    with pytest.raises(UserError, match=r"holds no words\.txt"):
        TinyImageNetDataModule(str(root))
