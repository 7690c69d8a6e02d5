"""The built-in drawn shapes."""

from hashlib import sha256

import numpy as np
import pytest
import torch
from torch import Tensor

from kd_lightning.data.loader import LabelledImages
from kd_lightning.data.shapes import SHAPES, SHAPES_CLASSES, ShapesDataModule, draw_shapes
from kd_lightning.errors import UserError


@pytest.fixture(scope="module")
def drawn() -> LabelledImages:
    return draw_shapes(2000, seed=5)


def test_the_images_are_the_same_bytes_on_every_machine() -> None:
    images = draw_shapes(230, seed=0).images
    assert (
        sha256(images.numpy().tobytes()).hexdigest()
        == "583759330283e0a65406e2f5538b7efb7ebda9c93e60ed0a86339a2725225987"
    )


def test_an_image_depends_on_its_seed_and_row_but_not_on_how_many_are_drawn(drawn: LabelledImages) -> None:
    assert torch.equal(draw_shapes(123, seed=5).images, drawn.images[:123])
    assert not torch.equal(draw_shapes(123, seed=6).images, drawn.images[:123])


def test_there_are_ten_classes_of_equally_many_colour_images(drawn: LabelledImages) -> None:
    assert drawn.images.shape == (2000, 32, 32, 3)
    assert drawn.images.dtype == torch.uint8
    assert drawn.labels.dtype == torch.int64
    assert drawn.labels.bincount().tolist() == [200] * 10
    assert len(set(SHAPES_CLASSES)) == 10
    assert SHAPES_CLASSES[0] == "striped circle"


def test_no_image_is_drawn_twice_in_training_and_test() -> None:
    data = ShapesDataModule(num_train=1500, num_test=500)
    images = torch.cat([data.split("train").images, data.split("test").images]).flatten(1)
    assert len(np.unique(images.numpy(), axis=0)) == 2000


def test_the_colours_of_pixels_use_the_whole_range_and_no_channel_stands_out(drawn: LabelledImages) -> None:
    pixels = drawn.images.float().flatten(0, 2)
    mean, std = pixels.mean(0), pixels.std(0)
    assert mean.max() - mean.min() < 3
    assert std.min() > 50
    assert drawn.images.unique().numel() == 256


def brightness(drawn: LabelledImages, classes: list[int]) -> Tensor:
    """Return the mean brightness of the images of some classes, (S, S)."""
    chosen = torch.isin(drawn.labels, torch.tensor(classes))
    return drawn.images[chosen].float().mean((0, 3))


def test_a_star_covers_less_than_a_square_and_dots_darken_less_than_stripes(drawn: LabelledImages) -> None:
    square, star = (brightness(drawn, classes).mean() for classes in ([2, 3], [8, 9]))
    striped, dotted = (brightness(drawn, list(range(first, 10, 2))).mean() for first in (0, 1))
    assert square > star + 5
    assert dotted > striped + 5


@pytest.mark.parametrize(
    ("point", "shapes"),
    [
        ((0.0, 0.0), {"circle", "square", "triangle", "cross", "star"}),
        ((0.0, -0.9), {"triangle", "cross", "star"}),
        ((0.0, 0.9), {"cross"}),
        ((0.7, 0.7), {"square"}),
        ((0.8, 0.0), {"circle", "cross"}),
        ((0.7, 0.45), {"circle", "square", "triangle"}),
        ((0.45, 0.65), {"circle", "square", "star"}),
    ],
)
def test_shapes_stand_upright_and_differ(point: tuple[float, float], shapes: set[str]) -> None:
    x, y = (np.full((1, 1, 1), value, dtype=np.float32) for value in point)
    assert {name for name, depth in SHAPES.items() if depth(x, y).item() > 0} == shapes


def test_the_nearest_mean_image_tells_classes_better_than_chance_but_far_from_perfectly(drawn: LabelledImages) -> None:
    test = draw_shapes(1000, seed=6)
    means = torch.stack([drawn.images[drawn.labels == label].float().mean(0) for label in range(10)])
    nearest = torch.cdist(test.images.float().flatten(1), means.flatten(1)).argmin(1)
    assert 0.15 < (nearest == test.labels).float().mean() < 0.6


@pytest.mark.parametrize("size", [8, 28, 64])
def test_shapes_are_drawn_in_other_sizes(size: int) -> None:
    assert draw_shapes(20, seed=0, image_size=size).images.shape == (20, size, size, 3)


def test_the_datamodule_knows_its_classes_before_drawing_and_normalizes_by_its_own_statistics() -> None:
    data = ShapesDataModule(num_train=200, num_test=50, image_size=16, val_size=0.1)
    assert (data.num_classes, data.in_channels, data.image_size) == (10, 3, 16)
    data.setup("fit")
    assert len(data.train_rows()[1]) == 180
    assert len(data.val_rows()[1]) == 20
    assert len(data.test_rows()[1]) == 50
    pixels = data.split("train").images.double().flatten(0, 2) / 255
    assert torch.allclose(torch.tensor(data.normalization.mean).double(), pixels.mean(0), atol=1e-4)


@pytest.mark.parametrize("wrong", [{"num_train": 9}, {"num_test": 0}, {"image_size": 7}])
def test_a_set_that_is_too_small_is_a_clear_error(wrong: dict[str, int]) -> None:
    with pytest.raises(UserError, match="set --data"):
        ShapesDataModule(**wrong)  # type: ignore[arg-type]
