"""The contact sheet shows what is stored and what training sees."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from kd_lightning.data.augment import CutMix, HorizontalFlip, Pipeline
from kd_lightning.data.contact_sheet import GAP, HEAD, MARGIN, NAMES, contact_sheet


def _data(channels: int = 3, size: int = 32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (30, size, size, channels), dtype=torch.uint8, generator=generator)
    return images, torch.arange(30) % 3


def _tile(sheet: Image.Image, line: int, column: int, part: int = 0, per_class: int = 4, side: int = 64) -> np.ndarray:
    left = MARGIN + NAMES + part * (per_class * (side + GAP) - GAP + MARGIN) + column * (side + GAP)
    top = MARGIN + HEAD + line * (side + GAP)
    return np.asarray(sheet)[top : top + side, left : left + side]


def _twice(image: Tensor) -> np.ndarray:
    return image.numpy().repeat(2, axis=0).repeat(2, axis=1)


def test_a_line_shows_the_first_images_of_its_class() -> None:
    images, labels = _data()
    sheet = contact_sheet(images, labels, ["a", "b", "c"], per_class=4)
    for line in range(3):
        for column in range(4):
            assert np.array_equal(_tile(sheet, line, column), _twice(images[3 * column + line]))


def test_the_right_part_shows_the_same_images_augmented_as_in_training() -> None:
    images, labels = _data()
    pipeline = Pipeline([HorizontalFlip()], 3)
    sheet = contact_sheet(images, labels, ["a", "b", "c"], pipeline, per_class=4, epoch=2)
    flipped = pipeline.flipped(torch.arange(30), 2)
    assert 0 < flipped[:12].sum() < 12
    for line in range(3):
        for column in range(4):
            row = 3 * column + line
            wanted = images[row].flip(1) if flipped[row] else images[row]
            assert np.array_equal(_tile(sheet, line, column, part=1), _twice(wanted))


def test_mixed_labels_and_grey_images_are_drawn_too() -> None:
    images, labels = _data(channels=1)
    sheet = contact_sheet(images, labels, ["a", "b", "c"], Pipeline([CutMix()], 3), per_class=4)
    assert np.array_equal(_tile(sheet, 2, 1), np.repeat(_twice(images[5]), 3, axis=2))


@pytest.mark.parametrize(("size", "side"), [(28, 56), (96, 96), (200, 128)])
def test_small_images_grow_by_whole_factors_and_large_ones_shrink(size: int, side: int) -> None:
    sheet = contact_sheet(*_data(size=size), ["a", "b", "c"], per_class=4)
    assert sheet.size == (2 * MARGIN + NAMES + 4 * (side + GAP) - GAP, 2 * MARGIN + HEAD + 3 * (side + GAP))


def test_names_are_written_and_long_ones_stay_off_the_images() -> None:
    images, labels = _data()
    short, long = (contact_sheet(images, labels, [text] * 3, per_class=4) for text in ("", "a long name " * 9))
    ink = np.asarray(short)[MARGIN + HEAD :] != np.asarray(long)[MARGIN + HEAD :]
    assert ink[:, MARGIN:NAMES].any()
    assert not ink[:, NAMES + MARGIN :].any()


def test_classes_beyond_the_limit_are_counted_in_one_line() -> None:
    images, labels = _data()
    full, short = (contact_sheet(images, labels, ["a", "b", "c"], max_classes=limit) for limit in (3, 1))
    assert short.height == full.height - 2 * (64 + GAP) + HEAD
    assert (np.asarray(short)[-MARGIN - HEAD : -MARGIN, MARGIN : 3 * NAMES] < 200).any()


def test_a_class_without_images_has_an_empty_line_and_any_name_is_drawn() -> None:
    images, labels = _data()
    names = ["a\nb", "\udcff", "\x1b[31m", "猫"]
    sheet = contact_sheet(images, labels, names, Pipeline([HorizontalFlip()], 4), per_class=4)
    assert (_tile(sheet, 3, 0) == 255).all()
    assert (_tile(sheet, 3, 0, part=1) == 255).all()
