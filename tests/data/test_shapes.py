"""The built-in drawn shapes."""

from hashlib import sha256

import numpy as np
import pytest
import torch

from kd_lightning.data.loader import LabelledImages
from kd_lightning.data.shapes import SHAPES_CLASSES, ShapesDataModule, draw_shapes
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


def test_shapes_are_drawn_in_other_sizes() -> None:
    assert draw_shapes(20, seed=0, image_size=28).images.shape == (20, 28, 28, 3)


def test_the_datamodule_knows_its_classes_before_drawing_and_normalizes_by_its_own_statistics() -> None:
    data = ShapesDataModule(num_train=200, num_test=50, image_size=16, val_size=0.1)
    assert (data.num_classes, data.in_channels, data.image_size) == (10, 3, 16)
    data.setup("fit")
    assert len(data.train_rows()[1]) == 180
    assert len(data.val_rows()[1]) == 20
    assert len(data.test_rows()[1]) == 50
    pixels = data.split("train").images.double().flatten(0, 2) / 255
    assert torch.allclose(torch.tensor(data.normalization.mean).double(), pixels.mean(0), atol=1e-4)


@pytest.mark.parametrize("wrong", [{"num_train": 9}, {"image_size": 7}])
def test_a_set_that_is_too_small_is_a_clear_error(wrong: dict[str, int]) -> None:
    with pytest.raises(UserError, match="set --data"):
        ShapesDataModule(**wrong)  # type: ignore[arg-type]
