import hashlib

import pytest
import torch

from kd_lightning.data import ShapesDataModule
from kd_lightning.data.shapes import SHAPES_CLASSES, draw_shapes
from kd_lightning.errors import UserError


def test_the_same_seed_draws_the_same_bytes_on_every_machine() -> None:
    drawn = draw_shapes(40, seed=0)
    assert torch.equal(drawn.images, draw_shapes(40, seed=0).images)
    assert not torch.equal(drawn.images, draw_shapes(40, seed=1).images)
    digest = hashlib.sha256(drawn.images.numpy().tobytes()).hexdigest()
    assert digest[:16] == "90721d241a0ad2fc"


def test_an_image_does_not_depend_on_how_many_are_drawn() -> None:
    assert torch.equal(draw_shapes(130, seed=3).images[:70], draw_shapes(70, seed=3).images)


def test_images_are_balanced_colour_images_that_use_the_whole_range() -> None:
    images, labels = draw_shapes(500, seed=0)
    assert images.shape == (500, 32, 32, 3)
    assert images.dtype == torch.uint8
    assert torch.bincount(labels).tolist() == [50] * len(SHAPES_CLASSES)
    assert (images.amin(), images.amax()) == (0, 255)
    assert 60 < images.float().mean() < 160


def test_training_and_test_images_are_different_ones() -> None:
    data = ShapesDataModule(num_train=300, num_test=300)
    train = {image.numpy().tobytes() for image in data.split("train").images}
    test = {image.numpy().tobytes() for image in data.split("test").images}
    assert (len(train), len(test), len(train & test)) == (300, 300, 0)


def test_stripes_and_dots_are_told_by_how_pixels_vary_along_one_direction() -> None:
    """Stripes are constant along one direction, dots along none."""
    images, labels = draw_shapes(1000, seed=0)
    middle = images[:, 10:22, 10:22].float().mean(3)
    along, across = middle.diff(dim=1).abs().mean((1, 2)), middle.diff(dim=2).abs().mean((1, 2))
    uneven = (along - across).abs() / (along + across)
    striped = labels % 2 == 0
    assert uneven[striped].mean() > 1.5 * uneven[~striped].mean()


def test_other_sizes_are_drawn_and_impossible_ones_refused() -> None:
    assert ShapesDataModule(num_train=20, num_test=10, image_size=16).split("test").images.shape == (10, 16, 16, 3)
    with pytest.raises(UserError, match="too few for ten classes"):
        ShapesDataModule(num_test=5)
    with pytest.raises(UserError, match="cannot be told in 4 pixels"):
        ShapesDataModule(image_size=4)
