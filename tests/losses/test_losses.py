"""Every loss against an independent calculation: loops over numbers, no shared code."""

from collections.abc import Callable
from copy import deepcopy
from math import exp, log, sqrt
from typing import Any

import pytest
import torch
from loss_examples import LOSSES, STUDENT, TEACHER, batch, built, outputs, value
from torch import Tensor

import kd_lightning.losses
from kd_lightning.errors import UserError
from kd_lightning.losses import (
    PKT,
    RKD,
    AttentionTransfer,
    CrossEntropy,
    FeatureRegression,
    HiddenCosine,
    Loss,
    SimilarityPreserving,
    SoftTargets,
)
from kd_lightning.networks.layers import LOGITS


def softmax(logits: list[float], temperature: float = 1.0) -> list[float]:
    powers = [exp(logit / temperature) for logit in logits]
    return [power / sum(powers) for power in powers]


def labels_loss(smoothing: float) -> float:
    total = 0.0
    for row, label in zip(outputs(STUDENT, seed=2).logits.tolist(), batch().labels.tolist(), strict=True):
        for index, probability in enumerate(softmax(row)):
            share = smoothing / 5 + (1 - smoothing) * (index == label)
            total -= share * log(probability) / 4
    return total


def soft_targets_loss(temperature: float) -> float:
    total = 0.0
    for own, other in zip(
        outputs(STUDENT, seed=2).logits.tolist(), outputs(TEACHER, seed=1).logits.tolist(), strict=True
    ):
        for p, q in zip(softmax(own, temperature), softmax(other, temperature), strict=True):
            total += temperature**2 * q * log(q / p) / 4
    return total


def hidden_cosine_loss() -> float:
    total = 0.0
    for own, other in zip(outputs(STUDENT, seed=2).maps["body"], outputs(TEACHER, seed=1).maps["body"], strict=True):
        one, flat = own.flatten().tolist(), other.flatten().tolist()
        two = [(flat[2 * i] + flat[2 * i + 1]) / 2 for i in range(len(one))]
        dot = sum(a * b for a, b in zip(one, two, strict=True))
        total += (1 - dot / sqrt(sum(a * a for a in one) * sum(b * b for b in two))) / 4
    return total


def regressed(loss: Any) -> Tensor:
    """The student's map after a 3x3 convolution with zero padding, number by number."""
    weight, bias = loss.projector.weight, loss.projector.bias
    source, result = outputs(STUDENT, seed=2).maps["body"], torch.zeros(4, 6, 4, 4, dtype=torch.float64)
    for image in range(4):
        for out in range(6):
            for y in range(4):
                for x in range(4):
                    total = bias[out].item()
                    for channel in range(3):
                        for dy in (-1, 0, 1):
                            for dx in (-1, 0, 1):
                                if 0 <= y + dy < 4 and 0 <= x + dx < 4:
                                    total += (
                                        weight[out, channel, dy + 1, dx + 1] * source[image, channel, y + dy, x + dx]
                                    )
                    result[image, out, y, x] = total
    return result


def regression_loss(loss: Any) -> float:
    errors = (regressed(loss) - outputs(TEACHER, seed=1).maps["body"]).flatten().tolist()
    return float(sum(error * error for error in errors) / len(errors))


def spatial_cosine(loss: Any) -> float:
    weight, bias = loss.projector.weight[:, :, 0, 0].tolist(), loss.projector.bias.tolist()
    source, target = outputs(STUDENT, seed=2).maps["body"], outputs(TEACHER, seed=1).maps["body"]
    total = 0.0
    for image in range(4):
        for y in range(4):
            for x in range(4):
                position = source[image, :, y, x].tolist()
                one = [
                    sum(w * c for w, c in zip(row, position, strict=True)) + b
                    for row, b in zip(weight, bias, strict=True)
                ]
                two = target[image, :, y, x].tolist()
                dot = sum(a * b for a, b in zip(one, two, strict=True))
                total += (1 - dot / sqrt(sum(a * a for a in one) * sum(b * b for b in two))) / 64
    return total


def attention_loss() -> float:
    total = 0.0
    for own, other in zip(outputs(STUDENT, seed=2).maps["body"], outputs(TEACHER, seed=1).maps["deep"], strict=True):
        four = [(dy, dx) for dy in (0, 1) for dx in (0, 1)]
        positions = [[[float(own[c, 2 * y + dy, 2 * x + dx]) for dy, dx in four] for c in range(3)] for y, x in four]
        pooled = [sum((sum(numbers) / 4) ** 2 for numbers in position) / 3 for position in positions]
        two = [sum(float(other[c, y, x]) ** 2 for c in range(6)) / 6 for y in range(2) for x in range(2)]
        lengths = [sqrt(sum(v * v for v in values)) for values in (pooled, two)]
        total += sum((a / lengths[0] - b / lengths[1]) ** 2 for a, b in zip(pooled, two, strict=True)) / 4 / 4
    return total


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("labels", lambda _: labels_loss(0.0)),
        ("smoothed labels", lambda _: labels_loss(0.1)),
        ("soft targets", lambda _: soft_targets_loss(3.0)),
        ("hidden cosine", lambda _: hidden_cosine_loss()),
        ("feature regression", regression_loss),
        ("spatial cosine", spatial_cosine),
        ("attention", lambda _: attention_loss()),
    ],
)
def test_a_loss_matches_its_formula(name: str, expected: Callable[[Loss], float]) -> None:
    loss = built(LOSSES[name]())
    assert value(loss).item() == pytest.approx(expected(loss), rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_the_values(name: str) -> None:
    loss = built(LOSSES[name]())
    value(loss)  # what a first batch sets counts as given
    target, student = loss.teacher_target(outputs(TEACHER, seed=1)), outputs(STUDENT, seed=2)

    def of(logits: Tensor, body: Tensor) -> Tensor:
        torch.manual_seed(0)
        result: Tensor = deepcopy(loss)(type(student)(logits, {**student.maps, "body": body}), target, batch())
        return result

    inputs = student.logits.requires_grad_(), student.maps["body"].requires_grad_(bool(loss.student_layers))
    assert torch.autograd.gradcheck(of, inputs, fast_mode=True)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("count", [1, 2])
def test_a_loss_of_few_images_is_finite(name: str, count: int) -> None:
    assert torch.isfinite(value(built(LOSSES[name]()), count))


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_of_constant_and_of_huge_logits_and_maps_is_finite(name: str) -> None:
    loss = built(LOSSES[name]())
    for scale in (0.0, 1e4):
        student, teacher = (
            type(found)(found.logits * scale, {key: maps * scale for key, maps in found.maps.items()})
            for found in (outputs(STUDENT, seed=2), outputs(TEACHER, seed=1))
        )
        student.logits.requires_grad_()
        student.maps["body"].requires_grad_()
        result = loss(student, loss.teacher_target(teacher), batch())
        assert torch.isfinite(result)
        result.backward()
        for given in (student.logits, student.maps["body"]):
            assert given.grad is None or torch.isfinite(given.grad).all()


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_in_bfloat16_is_that_of_float32_up_to_rounding(name: str) -> None:
    exact = value(built(LOSSES[name]())).item()
    rounded = value(built(LOSSES[name]()).to(torch.bfloat16), dtype=torch.bfloat16)
    assert rounded.item() == pytest.approx(exact, rel=0.05)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_sends_no_gradient_to_the_teacher_and_trains_all_its_own_parameters(name: str) -> None:
    loss = built(LOSSES[name]())
    with torch.no_grad():
        target = loss.teacher_target(outputs(TEACHER, seed=1))
    student = outputs(STUDENT, seed=2)
    student.logits.requires_grad_()
    student.maps["body"].requires_grad_()
    loss(student, target, batch()).backward()
    assert not any(values.requires_grad for values in target.values())
    for parameter, values in loss.named_parameters():
        assert values.grad is not None, parameter
        assert values.grad.abs().sum() > 0, parameter


def test_a_weight_rises_in_place_over_its_warm_up() -> None:
    loss = SoftTargets(weight=0.9, warm_up=3)
    place, weights = loss.weight.data_ptr(), []
    for epoch in range(5):
        loss.set_epoch(epoch)
        weights.append(float(loss.weight))
    assert weights == pytest.approx([0.3, 0.6, 0.9, 0.9, 0.9])
    assert loss.weight.data_ptr() == place


def test_equal_outputs_have_a_loss_of_zero() -> None:
    same = outputs(TEACHER, seed=1)
    relations = (PKT("body"), RKD("body"), SimilarityPreserving("body"))
    for loss in (SoftTargets(), AttentionTransfer(["deep"]), FeatureRegression("body", projector="none"), *relations):
        loss.build(TEACHER, TEACHER)
        assert float(loss(same, loss.teacher_target(same), batch())) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda: HiddenCosine("body", "flat"), "needs maps of channels, height and width"),
        (lambda: FeatureRegression("body", "deep"), "needs maps of equal height and width"),
        (
            lambda: FeatureRegression("body", projector="none"),
            "projector is none, but 3 and 6 channels need one; set projector",
        ),
        (lambda: AttentionTransfer(["body"], ["body", "deep"]), "student names 1 and teacher 2"),
        (lambda: SoftTargets(temperature=0), "temperature of SoftTargets is 0"),
        (lambda: CrossEntropy(label_smoothing=1), "must be in"),
        (lambda: SoftTargets(warm_up=-1), "warm_up of SoftTargets is -1"),
    ],
)
def test_a_loss_that_does_not_fit_names_what_to_set(loss: Callable[[], Loss], message: str) -> None:
    with pytest.raises(UserError, match=message):
        built(loss())


def test_a_loss_without_its_teacher_is_refused() -> None:
    with pytest.raises(UserError, match="learns from a teacher"):
        SoftTargets().build(STUDENT, None)


def test_logits_of_other_classes_are_refused() -> None:
    with pytest.raises(UserError, match="compares logits"):
        SoftTargets().build({LOGITS: (5,)}, {LOGITS: (4,)})


def test_every_loss_has_an_example_that_all_these_tests_go_over() -> None:
    shown = {type(make()) for make in LOSSES.values()}
    kinds = (getattr(kd_lightning.losses, name) for name in kd_lightning.losses.__all__)
    assert {kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Loss) and kind.short} == shown
