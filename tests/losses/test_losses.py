"""What every loss holds to."""

import re
from collections.abc import Callable
from copy import deepcopy
from inspect import signature

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
    SimKD,
    SoftTargets,
)
from kd_lightning.networks.layers import LOGITS


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


@pytest.mark.parametrize("name", LOSSES)
def test_help_describes_each_option_once_also_those_that_the_bases_describe(name: str) -> None:
    kind = type(LOSSES[name]())
    described = re.findall(r"^    (\w+): ", kind.__doc__ or "", re.MULTILINE)
    assert described[: len(signature(kind).parameters)] == list(signature(kind).parameters)


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


def test_a_loss_without_its_teacher_or_with_one_of_other_classes_is_refused() -> None:
    for loss in (SoftTargets(), PKT("body")):
        with pytest.raises(UserError, match="learns from a teacher"):
            loss.build(STUDENT, None)
    with pytest.raises(UserError, match="compares logits, but the teacher has 4 classes, the data has 5; fine-tune"):
        SoftTargets().build({LOGITS: (5,)}, {LOGITS: (4,)})


def test_every_loss_has_an_example_that_all_these_tests_go_over() -> None:
    shown = {SimKD, *(type(make()) for make in LOSSES.values())}  # SimKD has a file of its own
    kinds = (getattr(kd_lightning.losses, name) for name in kd_lightning.losses.__all__)
    assert {kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Loss) and kind.short} == shown
