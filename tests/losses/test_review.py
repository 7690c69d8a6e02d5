"""ReviewKD at its edges."""

from typing import Any

import pytest
import torch
from loss_examples import STUDENT, TEACHER, batch, built, outputs
from torch import nn

from kd_lightning.errors import UserError
from kd_lightning.losses import ReviewKD
from kd_lightning.losses.pairs import pair_lines
from kd_lightning.losses.review import pyramid_loss
from kd_lightning.networks.layers import LOGITS


def test_levels_of_the_pyramid_are_those_below_the_size_of_the_map() -> None:
    ones = torch.ones(1, 1, 8, 8)
    chequered = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(4, 4).view(1, 1, 8, 8)
    assert float(pyramid_loss(ones, 3 * ones)) == pytest.approx(4)
    assert float(pyramid_loss(chequered, 0 * ones)) == pytest.approx(1 / (1 + 1 / 2 + 1 / 4 + 1 / 8))
    assert float(pyramid_loss(chequered[..., :2, :2], 0 * ones[..., :2, :2])) == pytest.approx(1 / (1 + 1 / 2))
    assert float(pyramid_loss(ones[..., :1, :1], 3 * ones[..., :1, :1])) == pytest.approx(4)


def test_one_image_whose_maps_are_one_pixel_trains_a_review() -> None:
    shapes = {"body": (3, 2, 2), "deep": (4, 1, 1), LOGITS: (5,)}
    loss = ReviewKD(["body", "deep"])
    loss.build(shapes, shapes)
    images = outputs(shapes, count=1, dtype=torch.float32)
    result = loss(images, loss.teacher_target(images), batch(1))
    result.backward()
    assert result.isfinite()
    assert all(values.grad is not None and values.grad.isfinite().all() for values in loss.parameters())


def test_a_review_of_one_stage_is_refused() -> None:
    with pytest.raises(UserError, match="student names only 'body'; name two layers or more"):
        ReviewKD(["body"])


def test_a_review_trains_as_many_weights_as_its_docstring_states() -> None:
    loss: Any = built(ReviewKD(["body", "deep"]))
    sizes = [
        sum(part.weight.numel() for part in fusion.modules() if isinstance(part, nn.Conv2d)) for fusion in loss.fusions
    ]
    assert sizes == [3 * 4 + 9 * 4 * 6 + 2 * 2 * 4, 4 * 4 + 9 * 4 * 6]


def test_the_parameters_of_all_stages_are_printed_once() -> None:
    lines = pair_lines({"review": built(ReviewKD(["body", "deep"]))}, STUDENT, TEACHER)
    assert lines == [
        "review: body 3x4x4 -> body 6x4x4",
        "review: deep 4x2x2 -> deep 6x2x2, 518 parameters, dropped at export",
    ]
