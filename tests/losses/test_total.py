"""The sum of losses: each is a scalar with a gradient, sees only its own, and changes nothing that others see."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fast_example import assert_same, train
from loss_examples import STUDENT, TEACHER, batch, outputs
from tiny import TinyNetwork
from torch import Tensor

from kd_lightning.errors import UserError
from kd_lightning.losses import (
    Batch,
    CrossEntropy,
    FeatureRegression,
    Loss,
    LossSum,
    Outputs,
    SoftTargets,
    SpatialCosine,
    Targets,
)
from kd_lightning.tasks import Distill
from kd_lightning.teacher import Teacher

Value = Callable[[Outputs, Targets, Batch], Any]


class Own(Loss):
    """Returns what a function gives for a batch."""

    student_layers = teacher_layers = ("body",)

    def __init__(self, value: Value, weight: float = 1.0) -> None:
        super().__init__(weight)
        self.value = value

    def teacher_target(self, teacher: Outputs) -> Targets:
        return {"body": 30 * teacher.maps["body"]}

    def forward(self, student: Outputs, target: Targets, batch: Batch) -> Tensor:
        return self.value(student, target, batch)  # type: ignore[no-any-return]


def summed(**losses: Loss) -> tuple[Tensor, dict[str, Tensor]]:
    torch.manual_seed(0)
    total = LossSum(losses, STUDENT, TEACHER).double()
    student = outputs(STUDENT, seed=2)
    student = Outputs(student.logits.requires_grad_() * 1, {name: values * 1 for name, values in student.maps.items()})
    teacher = outputs(TEACHER, seed=1)
    targets = {name: loss.teacher_target(teacher.only(loss.teacher_layers)) for name, loss in losses.items()}
    return total(student, targets, batch())  # type: ignore[no-any-return]


def test_a_sum_has_each_loss_without_its_weight_and_all_with_theirs() -> None:
    total, losses = summed(kd=SoftTargets(weight=0.5, warm_up=2), labels=CrossEntropy(weight=3.0))
    assert total.item() == pytest.approx(0.25 * losses["kd"].item() + 3 * losses["labels"].item())


def test_a_loss_sees_only_its_own_targets_and_layers() -> None:
    single = summed(maps=FeatureRegression("body"))[1]["maps"]
    own = Own(lambda student, target, _: target["body"].abs().mean() + len(student.maps), weight=0)
    _, losses = summed(maps=FeatureRegression("body"), own=own)
    assert losses["maps"] == single
    assert losses["own"].item() == pytest.approx(30 * outputs(TEACHER, seed=1).maps["body"].abs().mean().item() + 1)


WRONG: dict[str, tuple[Value, str]] = {
    "target": (lambda s, t, b: s.logits.mean() + t["body"].mul_(2).mean(), "changes the teacher's 'body' in place"),
    "labels": (lambda s, t, b: s.logits.mean() + b.labels.zero_().sum(), "changes the labels in place, .*`.clone"),
    "map": (lambda s, t, b: s.maps["body"].detach().zero_().sum() + s.logits.mean(), "changes the student's 'body' "),
    "logits": (lambda s, t, b: s.logits.mul_(2).mean(), "changes the student's logits in place"),
    "an image": (lambda s, t, b: s.logits.mean(1), r"\(Own\) gives a tensor of shape \(4,\), .*by `.mean\(\)`"),
    "a number": (lambda s, t, b: float(s.logits.detach().mean()), r"\(Own\) gives a float, .*without `.item\(\)`"),
    "detached": (lambda s, t, b: s.logits.detach().mean(), ".* gives a value without a gradient, .* a weight of 0"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_loss_that_is_no_scalar_with_a_gradient_or_changes_what_others_see_is_refused(kind: str) -> None:
    value, message = WRONG[kind]
    with pytest.raises(UserError, match=f"^the loss 'own' {message}"):
        summed(labels=CrossEntropy(), own=Own(value), kd=SoftTargets())


def test_a_term_that_is_only_shown_needs_no_gradient() -> None:
    assert "own" in summed(labels=CrossEntropy(), own=Own(WRONG["detached"][0], weight=0))[1]


@pytest.mark.parametrize("name", ["accuracy", "kd loss"])
def test_a_name_that_cannot_be_logged_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"a loss is called '{name}'; give it a name of letters"):
        summed(**{name: SoftTargets()})
    with pytest.raises(UserError, match="at least one loss"):
        summed()


def test_a_loss_may_be_called_as_a_method_of_a_module_is_and_is_resumed_with_what_it_has_learned(
    tmp_path: Path,
) -> None:
    names = ["type", "keys", "items", "train", "to", "values", "pop", "float", "training", "named", "compute"]

    def make(fast: bool) -> Distill:
        torch.manual_seed(1)
        losses: dict[str, Loss] = {name: SpatialCosine("features") for name in names}
        losses["maps"] = FeatureRegression("features")
        return Distill(TinyNetwork(), Teacher(TinyNetwork()), losses, cache_teacher=False)

    whole, half = train(make, False, max_epochs=2), train(make, False, max_epochs=1)
    half[0].save_checkpoint(tmp_path / "half.ckpt")
    keys = torch.load(tmp_path / "half.ckpt", weights_only=True)["state_dict"].keys()
    assert {"losses.to-loss.projector.weight", "losses.maps.projector.weight"} < keys
    assert_same(whole, train(make, False, ckpt=tmp_path / "half.ckpt", max_epochs=2))
    assert all(float(whole[0].callback_metrics[f"{stage}/{name}"]) > 0 for name in names for stage in ("train", "val"))
