"""ReviewKD against an independent calculation, and at its edges."""

from itertools import product
from math import exp, sqrt
from typing import Any

import pytest
import torch
from loss_examples import STUDENT, TEACHER, batch, built, outputs, value
from torch import Tensor, nn

from kd_lightning.errors import UserError
from kd_lightning.losses import ReviewKD
from kd_lightning.losses.pairs import pair_lines
from kd_lightning.losses.review import pyramid_loss
from kd_lightning.networks.layers import LOGITS


def convolved(source: Tensor, convolution: Any) -> Tensor:
    """A convolution with zero padding, number by number."""
    weight, (count, _, height, width) = convolution.weight, source.shape
    reach, result = weight.shape[-1] // 2, torch.zeros(count, len(weight), height, width, dtype=torch.float64)
    for image, out, y, x in product(range(count), range(len(weight)), range(height), range(width)):
        total = 0.0 if convolution.bias is None else convolution.bias[out].item()
        for dy, dx in product(range(-reach, reach + 1), repeat=2):
            if 0 <= y + dy < height and 0 <= x + dx < width:
                total += float(weight[out, :, dy + reach, dx + reach] @ source[image, :, y + dy, x + dx])
        result[image, out, y, x] = total
    return result


def normalized(values: Tensor) -> Tensor:
    """Batch normalization as it begins, channel by channel."""
    result = torch.zeros_like(values)
    for channel in range(values.shape[1]):
        numbers = values[:, channel].flatten().tolist()
        mean = sum(numbers) / len(numbers)
        variance = sum((number - mean) ** 2 for number in numbers) / len(numbers)
        result[:, channel] = (values[:, channel] - mean) / sqrt(variance + 1e-5)
    return result


def resized(values: Tensor, size: int) -> Tensor:
    result = torch.zeros(*values.shape[:2], size, size, dtype=torch.float64)
    for y, x in product(range(size), repeat=2):
        result[:, :, y, x] = values[:, :, y * values.shape[2] // size, x * values.shape[3] // size]
    return result


def averaged(values: Tensor, size: int) -> Tensor:
    side, result = values.shape[-1] // size, torch.zeros(*values.shape[:2], size, size, dtype=torch.float64)
    for y, x in product(range(size), repeat=2):
        parts = [values[:, :, side * y + dy, side * x + dx] for dy, dx in product(range(side), repeat=2)]
        result[:, :, y, x] = torch.stack(parts).sum(0) / side**2
    return result


def squared_error(one: Tensor, other: Tensor) -> float:
    pairs = list(zip(one.flatten().tolist(), other.flatten().tolist(), strict=True))
    total: float = sum((a - b) ** 2 for a, b in pairs) / len(pairs)
    return total


def stage_error(own: Tensor, other: Tensor) -> float:
    levels = [(own, other), *((averaged(own, size), averaged(other, size)) for size in (2, 1) if size < own.shape[-1])]
    weights = [1.0, 0.5, 0.25][: len(levels)]
    total: float = sum(w * squared_error(*level) for w, level in zip(weights, levels, strict=True))
    return total / sum(weights)


@pytest.mark.parametrize("teacher", [["body", "deep"], ["deep", "body"]], ids=["same heights", "other heights"])
@torch.no_grad()
def test_review_matches_its_formula(teacher: list[str]) -> None:
    loss: Any = built(ReviewKD(["body", "deep"], teacher))
    student, target = outputs(STUDENT, seed=2).maps, outputs(TEACHER, seed=1).maps
    (shallow, deepest), (first, second) = loss.fusions, (target[name] for name in teacher)
    handed = resized(normalized(convolved(student["deep"], deepest.enter[0])), second.shape[-1])
    expected = stage_error(normalized(convolved(handed, deepest.leave[0])), second)
    own, above = normalized(convolved(student["body"], shallow.enter[0])), resized(handed, 4)
    attention = convolved(torch.cat([own, above], 1), shallow.attention).apply_(lambda x: 1 / (1 + exp(-x)))
    fused = resized(own * attention[:, :1] + above * attention[:, 1:], first.shape[-1])
    expected += stage_error(normalized(convolved(fused, shallow.leave[0])), first)
    assert value(loss).item() == pytest.approx(expected, rel=1e-9)


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
