"""No loss changes another's numbers, and each is a scalar with a gradient, whatever it is called."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from fast_example import assert_same, train
from tiny import TinyNetwork
from torch import Tensor

from kd_lightning.data.loader import Batch
from kd_lightning.errors import UserError
from kd_lightning.losses import CrossEntropy, FeatureRegression, LayerLoss, Loss, SoftTargets, SpatialCosine, Targets
from kd_lightning.networks.layers import Outputs
from kd_lightning.tasks import Distill
from kd_lightning.teacher import Teacher, cache
from kd_lightning.teacher.table import Storage

Losses = dict[str, Loss]


class Own(LayerLoss):
    """Needs something else under a layer's name than the layer's values; returns a function's value for a batch."""

    def __init__(self, value: Callable[[Outputs, Targets, Batch], Any] | None = None, weight: float = 1.0) -> None:
        super().__init__("features", weight=weight)
        self.value = value or (lambda student, target, batch: (student.logits * target["features"].mean()).mean())

    def teacher_target(self, teacher: Outputs) -> Targets:
        return {"features": 30 * teacher.maps["features"]}

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, student: Outputs, target: Targets, batch: Batch) -> Tensor:
        return self.value(student, target, batch)


def distill(losses: Losses, cache_teacher: bool = False) -> Distill:
    torch.manual_seed(1)
    return Distill(TinyNetwork(), Teacher(TinyNetwork()), losses, cache_teacher=cache_teacher)


def metrics(losses: Losses, cache_teacher: bool, **data: Any) -> dict[str, float]:
    trainer, _ = train(lambda _: distill(losses, cache_teacher), False, data, max_epochs=1)
    return {name: float(value) for name, value in trainer.callback_metrics.items()}


@pytest.mark.parametrize("kept", ["live", "in memory", "on the disk", "since an earlier run"])
@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_what_a_loss_keeps_by_anothers_key_is_its_own(
    kept: str, first: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    single = metrics({"maps": FeatureRegression("features")}, cache_teacher=False)
    if kept == "on the disk":
        monkeypatch.setattr(cache, "choose_storage", lambda *_: Storage.DISK)
    if kept == "since an earlier run":
        monkeypatch.setattr(cache, "KEPT_FROM", 0.0)
        metrics({"own": Own(weight=0)}, cache_teacher=True)  # the only one of that key in its run
        assert len(list(tmp_path.rglob("teacher-*.bin"))) == 1
    maps: Losses = {"maps": FeatureRegression("features")}
    losses: Losses = {"own": Own(weight=0), **maps} if first else {**maps, "own": Own(weight=0)}
    both = metrics(losses, cache_teacher=kept != "live")
    for name in ("train/maps", "val/maps"):
        assert both[name] == pytest.approx(single[name], rel=1e-5)


def test_a_loss_sees_only_the_layers_that_it_has_named() -> None:
    losses: Losses = {"maps": FeatureRegression("features"), "kd": SoftTargets()}
    losses["kd"].forward = lambda student, target, batch: student.logits.mean() * len(student.maps)  # type: ignore[method-assign]
    assert metrics(losses, cache_teacher=False)["train/kd"] == 0


CHANGES: dict[str, tuple[Callable[[Outputs, Targets, Batch], Any], str]] = {
    "target": (lambda s, t, b: s.logits.mean() + t["features"].mul_(2).mean(), "the teacher's 'features'"),
    "labels": (lambda s, t, b: s.logits.mean() + b.labels.zero_().sum(), "the labels"),
    "map": (lambda s, t, b: s.maps["features"].detach().zero_().sum() + s.logits.mean(), "the student's 'features'"),
    "logits": (lambda s, t, b: s.logits.mul_(2).mean(), "the student's logits"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("cache_teacher", [False, True], ids=["live", "cached"])
def test_a_loss_that_changes_what_others_see_is_refused(change: str, cache_teacher: bool) -> None:
    value, what = CHANGES[change]
    with pytest.raises(UserError, match=f"^the loss 'own' changes {what} in place.* by `.clone\\(\\)`\\.$"):
        metrics({"own": Own(value), "labels": CrossEntropy()}, cache_teacher)


NO_SCALARS: dict[str, tuple[Callable[[Outputs, Targets, Batch], Any], str]] = {
    "one an image": (lambda s, t, b: s.logits.mean(1), r"a tensor of shape \(16,\), .*by `.mean\(\)`"),
    "one in a list": (lambda s, t, b: s.logits.mean().reshape(1), r"a tensor of shape \(1,\)"),
    "a number": (lambda s, t, b: float(s.logits.detach().mean()), r"a float, .*without `.item\(\)`"),
    "nothing": (lambda s, t, b: None, "a NoneType"),
    "detached": (lambda s, t, b: s.logits.detach().mean(), "a value without a gradient, .* a weight of 0"),
}


@pytest.mark.parametrize("kind", NO_SCALARS)
def test_what_is_not_a_scalar_with_a_gradient_is_refused(kind: str) -> None:
    value, message = NO_SCALARS[kind]
    with pytest.raises(UserError, match=rf"^the loss 'own' \(Own\) gives {message}"):
        metrics({"labels": CrossEntropy(), "own": Own(value)}, cache_teacher=False)


def test_a_term_that_is_only_shown_needs_no_gradient() -> None:
    value, _ = NO_SCALARS["detached"]
    assert "train/own" in metrics({"labels": CrossEntropy(), "own": Own(value, weight=0)}, cache_teacher=False)


NAMES = ["type", "keys", "items", "train", "to", "values", "pop", "float", "training", "reset", "compute"]


def test_a_loss_may_be_called_as_a_method_of_a_module_is() -> None:
    trainer, task = train(lambda _: distill({name: SoftTargets() for name in NAMES}), False, max_epochs=1)
    assert list(cast(Distill, task).named_losses) == NAMES
    assert all(float(trainer.callback_metrics[f"{stage}/{name}"]) > 0 for name in NAMES for stage in ("train", "val"))


def test_such_a_loss_is_resumed_with_what_it_has_learned(tmp_path: Path) -> None:
    def make(fast: bool) -> Distill:
        return distill({"to": SpatialCosine("features"), "maps": FeatureRegression("features")})

    whole = train(make, False, max_epochs=2)
    half = train(make, False, max_epochs=1)
    half[0].save_checkpoint(tmp_path / "half.ckpt")
    keys = torch.load(tmp_path / "half.ckpt", weights_only=True)["state_dict"].keys()
    assert {"losses.to-loss.projector.weight", "losses.maps.projector.weight"} < keys
    assert_same(whole, train(make, False, ckpt=tmp_path / "half.ckpt", max_epochs=2))
