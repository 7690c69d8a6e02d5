"""A data set has one scale for its pixels of more than 8 bits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from kd_lightning.data.image_folder import ImageFolderDataModule
from kd_lightning.data.pixel_range import usual_range
from kd_lightning.errors import UserError

SIZE = 4


def write(path: Path, values: float | Sequence[float], kind: str) -> None:
    """Write an image of ``SIZE`` x ``SIZE`` pixels: the values, then the last one throughout."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels: NDArray[Any] = np.full(SIZE * SIZE, np.ravel(values)[-1], kind)
    pixels[: np.size(values)] = values
    Image.fromarray(pixels.reshape(SIZE, SIZE)).save(path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two training images of two classes, 16 bits, with values of 12; and a test image each."""
    for split, value in (("train", 4000), ("test", 2000)):
        write(tmp_path / "data" / split / "a" / "0.png", (0, value), "u2")
        write(tmp_path / "data" / split / "b" / "0.tif", (100, value // 2), "u2")
    return tmp_path / "data"


def module(root: Path, **options: Any) -> ImageFolderDataModule:
    cache = str(root.parent / "cache")
    return ImageFolderDataModule(str(root), SIZE, channels=1, val_size=0, cache_dir=cache, **options)


def last_pixels(data: ImageFolderDataModule) -> dict[str, list[int]]:
    return {name: data.split(name).images[:, -1, -1, 0].tolist() for name in ("train", "test")}


@pytest.mark.parametrize(
    ("low", "high", "floats", "expected"),
    [
        (5, 255, False, (0, 255)),
        (0, 256, False, (0, 1023)),
        (0, 3977, False, (0, 4095)),
        (0, 16, False, (0, 16)),
        (-1024, 3071, False, (-1024, 3071)),
        (0, 0, False, (0, 1)),
        (0, 0.9, True, (0, 1)),
        (0, 1.02, True, (0, 1.02)),
    ],
)
def test_values_have_the_usual_range_that_they_fill_or_else_their_own(
    low: float, high: float, floats: bool, expected: tuple[float, float]
) -> None:
    assert usual_range(low, high, floats=floats) == expected


@pytest.mark.parametrize("name", ["a/0.tif", "b/0.tif"])
def test_one_pixel_that_is_too_bright_does_not_darken_only_its_image(tmp_path: Path, name: str) -> None:
    for one in ("train/a/0.tif", "train/b/0.tif", "test/a/0.tif"):
        write(tmp_path / "data" / one, (0.1, 0.51), "f4")
    write(tmp_path / "data" / "train" / name, (1.02, 0.51), "f4")
    with pytest.warns(UserWarning, match=r"3 of 3 images have more than 8 bits .*: 0 to 1\.02 become 0 to 255"):
        assert last_pixels(module(tmp_path / "data")) == {"train": [128, 128], "test": [128]}


def test_twelve_bits_in_sixteen_take_all_levels_and_a_later_start_knows_the_range(data: Path) -> None:
    for _ in range(2):
        found = module(data)
        with pytest.warns(
            UserWarning, match=r"0 to 4095 become .* \(training images have 0 to 4000; --data.pixel_range"
        ):
            assert last_pixels(found) == {"train": [249, 125], "test": [125, 62]}
        assert found.pixel_range == (0, 4095)


def test_the_range_is_that_of_the_training_images_and_test_images_beyond_it_are_named(data: Path) -> None:
    write(data / "test" / "a" / "0.png", 60_000, "u2")
    with pytest.warns(UserWarning, match=r"Beyond it: 1 image outside the training set, such as .*test/a/0\.png"):
        assert last_pixels(module(data)) == {"train": [249, 125], "test": [255, 62]}


def test_a_range_that_is_given_is_used_and_has_a_cache_of_its_own(data: Path) -> None:
    with pytest.warns(UserWarning, match="0 to 4095"):
        module(data).prepare_data()
    given = module(data, pixel_range=(0, 8000))
    assert last_pixels(given) == {"train": [128, 64], "test": [64, 32]}
    assert given.pixel_range == (0, 8000)
    assert len(list((data.parent / "cache").glob("*.npy"))) == 2


def test_images_of_eight_bits_beside_wide_ones_keep_their_values(data: Path) -> None:
    write(data / "train" / "a" / "1.png", (0, 77), "u1")
    with pytest.warns(UserWarning, match="4 of 5 images have more than 8 bits"):
        assert last_pixels(module(data))["train"] == [249, 77, 125]


def test_whole_and_floating_point_numbers_of_two_ranges_are_refused_unless_one_is_given(data: Path) -> None:
    write(data / "train" / "b" / "1.tif", (0, 0.5), "f4")
    with pytest.raises(
        UserError, match=r"0 to 4095 \(.*a/0\.png\) and 0 to 1 \(.*b/1\.tif\); convert one kind, or give"
    ):
        module(data).prepare_data()
    assert last_pixels(module(data, pixel_range=(0, 4000)))["train"] == [255, 128, 0]


def test_wide_images_only_among_test_images_are_refused(tmp_path: Path) -> None:
    for name in ("train/a/0.png", "train/b/0.png", "test/b/0.png"):
        write(tmp_path / "data" / name, (0, 9), "u1")
    write(tmp_path / "data" / "test" / "a" / "0.png", 9, "u2")
    with pytest.raises(UserError, match=r"1 of 4 images .*\n.*test/a/0\.png: it has more than 8 bits a value"):
        module(tmp_path / "data").prepare_data()


def test_wide_images_that_are_all_broken_are_reported_with_the_reason(data: Path) -> None:
    for path in [*data.rglob("*.tif"), *data.rglob("*.png")]:
        write(path, 9, "u1") if path.suffix == ".png" else write(path, float("nan"), "f4")
    with pytest.raises(UserError, match=r"train/b/0\.tif: it has pixels that are not finite"):
        module(data).prepare_data()


@pytest.mark.parametrize("values", [(1, 1), (0, float("inf"))])
def test_an_invalid_range_is_refused(data: Path, values: tuple[float, float]) -> None:
    with pytest.raises(UserError, match=r"pixel_range .* as in --data.pixel_range '\[0, 4095\]'"):
        module(data, pixel_range=values)
