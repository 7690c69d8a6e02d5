"""Distillation by several named losses, with the teacher's targets computed, cached or captured."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from fast_example import assert_same, train
from lightning.pytorch import Callback, Trainer
from recorded_graph import Captures
from task_example import SaveAt
from tiny import TinyDataModule, TinyNetwork, tiny_images
from torch.optim import SGD

from kd_lightning.data.augment import HorizontalFlip, Mixup, RandomCrop
from kd_lightning.data.loader import LabelledImages
from kd_lightning.data.source import Split
from kd_lightning.errors import UserError
from kd_lightning.losses import (
    DKD,
    SRD,
    VID,
    AttentionTransfer,
    CrossEntropy,
    FeatureRegression,
    HiddenCosine,
    Loss,
    SoftTargets,
    SpatialCosine,
)
from kd_lightning.networks import DeepNN, LightNN, ModuleNetwork, Network, TorchvisionNetwork
from kd_lightning.networks.layers import LOGITS
from kd_lightning.tasks import CosineDistill, Distill
from kd_lightning.teacher import Teacher

Losses = dict[str, Loss]


def tutorial_networks() -> tuple[Network, Network, Losses]:
    return LightNN(4, 3, 8), DeepNN(4, 3, 8), {"kd": SoftTargets(weight=0.9)}


def plain_modules() -> tuple[Network, Network, Losses]:
    student, teacher = (ModuleNetwork(4, 3, 8, "plain_module.PlainNet", {"width": width}) for width in (4, 8))
    return student, teacher, {"kd": SoftTargets(), "stem": SpatialCosine("stem"), "norm": HiddenCosine("norm")}


def torchvision_networks() -> tuple[Network, Network, Losses]:
    student, teacher = (TorchvisionNetwork(4, 3, 32, f"squeezenet1_{version}") for version in (1, 0))
    maps = AttentionTransfer(["features.3", "features.6"], ["features.3", "features.5"])
    return student, teacher, {"kd": SoftTargets(), "maps": maps}


class Larger(TinyDataModule):
    """Images that are large enough for torchvision's networks."""

    image_size = 32

    def load(self, split: Split) -> LabelledImages | None:
        """Draw the images of a split."""
        return None if split == "val" else tiny_images(self.count, self.classes, seed=int(split == "test"), size=32)


def distill(
    fast: bool,
    networks: Callable[[], tuple[Network, Network, Losses]] = tutorial_networks,
    cache_teacher: Any = True,
) -> Distill:
    torch.manual_seed(1)
    student, teacher, losses = networks()
    losses = {"labels": CrossEntropy(weight=0.1), **losses}
    return Distill(
        student,
        Teacher(teacher),
        losses,
        cache_teacher=cache_teacher,
        fast=fast,
        optimizer=lambda parameters: SGD(parameters, lr=2**-6, momentum=0.5, fused=True),
    )


@pytest.mark.parametrize(
    ("networks", "source", "views"), [(plain_modules, TinyDataModule, None), (torchvision_networks, Larger, 3)]
)
def test_losses_are_the_same_live_cached_and_captured(
    networks: Any, source: type[TinyDataModule], views: int | None, captured_on_cpu: Captures
) -> None:
    augment = [] if views is None else [RandomCrop(padding=1), HorizontalFlip()]
    data: dict[str, Any] = {"count": 60, "augment": augment, "views": views}
    runs: dict[str, Any] = {"source": source, "max_epochs": 3}
    live = train(partial(distill, networks=networks, cache_teacher=False), False, data, **runs)
    for fast in (False, True):
        other = train(partial(distill, networks=networks, cache_teacher=True), fast, data, **runs)
        assert_same(live, other, exact=False)
        for name, expected in live[0].callback_metrics.items():
            if not name.endswith("accuracy"):
                found = float(other[0].callback_metrics[name])
                assert found == pytest.approx(float(expected), rel=1e-5, abs=1e-5), name
    assert captured_on_cpu.replays > 2


def test_losses_that_need_the_same_tensor_share_a_table() -> None:
    losses: Losses = {"one": FeatureRegression("features"), "two": SpatialCosine("features"), "kd": SoftTargets()}
    losses |= {"dkd": DKD(), "srd": SRD("classifier.1"), "vid": VID("classifier.1")}
    task = Distill(LightNN(4, 3, 8), Teacher(DeepNN(4, 3, 8)), losses)
    kept = task.targets.distinct(torch.zeros(3, 3, 8, 8))
    assert list(kept) == [("one", "features"), ("kd", LOGITS), ("srd", "classifier.1 averaged to 1x1")]


def test_a_weight_that_rises_is_what_the_step_multiplies_with(captured_on_cpu: Captures) -> None:
    def make(fast: bool) -> Distill:
        torch.manual_seed(1)
        losses: Losses = {"kd": SoftTargets(weight=8.0, warm_up=4)}
        return Distill(LightNN(4, 3, 8), Teacher(DeepNN(4, 3, 8)), losses, cache_teacher=True, fast=fast)

    for epochs in (1, 3):
        trainer, _ = train(make, True, {"count": 100}, max_epochs=epochs)
        metrics = trainer.callback_metrics
        assert float(metrics["train/loss"]) == pytest.approx(2.0 * epochs * float(metrics["train/kd"]), rel=1e-5)
    assert captured_on_cpu.replays


def test_without_labels_a_student_learns_from_only_the_teacher() -> None:
    task = Distill(LightNN(4, 3, 8), Teacher(DeepNN(4, 3, 8)), {"kd": SoftTargets(weight=1.0)})
    trainer, _ = train(lambda fast: task, False, max_epochs=3)
    assert "val/accuracy" in trainer.callback_metrics
    assert float(trainer.callback_metrics["train/loss"]) < 0.1


def test_the_teacher_runs_once_on_each_view(capsys: pytest.CaptureFixture[str]) -> None:
    data = {"count": 40, "augment": [RandomCrop(padding=1)], "views": 2}
    train(partial(distill, cache_teacher="auto"), False, data, max_epochs=2)
    assert "cached for 40 images in 2 views each" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("data", "epochs", "message"),
    [
        ({"augment": [RandomCrop(padding=1)]}, 2, "RandomCrop in --data.augment shows it a new view"),
        ({"augment": [Mixup()], "views": 2}, 2, "Mixup in --data.augment mixes images of a batch"),
        (
            {"augment": [RandomCrop(padding=1)], "views": 9},
            2,
            "this fit runs it on fewer images than there",
        ),
    ],
)
def test_a_teacher_that_cannot_be_cached_runs_in_every_step_and_the_reason_is_printed(
    data: dict[str, Any], epochs: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    train(partial(distill, cache_teacher="auto"), False, {"count": 40, **data}, max_epochs=epochs)
    assert f"Teacher: runs in every step; {message}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ({"maps": FeatureRegression("featuers")}, "^the loss 'maps': DeepNN has no layer 'featuers'; .*features"),
        ({"maps": FeatureRegression("features.0", "features")}, "^the loss 'maps': .*name layers of the same size"),
        ({"kd.first": SoftTargets()}, "a name of letters, digits and _"),
        ({"loss": SoftTargets()}, "'loss'"),
        ({}, "at least one loss"),
    ],
)
def test_impossible_losses_are_refused_in_one_sentence(losses: Losses, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Distill(LightNN(4, 3, 8), Teacher(DeepNN(4, 3, 8)), losses)


def test_each_pair_of_layers_is_shown_with_its_shapes_at_the_start(capsys: pytest.CaptureFixture[str]) -> None:
    losses: Losses = {
        "labels": CrossEntropy(),
        "maps": FeatureRegression("features"),
        "early": AttentionTransfer(["features.1", "features"], ["features.3", "features"]),
        "kd": SoftTargets(),
    }
    task = Distill(LightNN(4, 3, 8), Teacher(DeepNN(4, 3, 8)), losses)
    train(lambda fast: task, False, max_epochs=1)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Losses:")]
    assert lines == [
        "Losses: maps: features 16x2x2 -> features 32x2x2, projector 3x3, 4,640 parameters, dropped at export.",
        "Losses: early: features.1 16x8x8 -> features.3 64x8x8.",
        "Losses: early: features 16x2x2 -> features 32x2x2.",
    ]


def test_the_tutorials_objectives_read_layers_of_any_network() -> None:
    task = CosineDistill(
        TinyNetwork(width=2), Teacher(TinyNetwork()), student_layer="features", teacher_layer="features.2"
    )
    assert task.targets.shapes_of("hidden_rep_loss")["features.2"] == (4, 4, 4)


def test_a_weight_that_rises_resumes_in_the_middle_of_an_epoch(tmp_path: Path) -> None:
    class Look(Callback):
        def __init__(self) -> None:
            self.weights: list[tuple[int, float]] = []

        def on_train_batch_start(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
            self.weights.append((trainer.global_step, float(pl_module.losses["kd"].weight)))

    def make(fast: bool) -> Distill:
        losses: Losses = {"kd": SoftTargets(weight=8.0, warm_up=4)}
        return Distill(LightNN(4, 3, 8), Teacher(DeepNN(4, 3, 8)), losses, cache_teacher=True)

    data = {"count": 64, "val_size": 0}  # 4 steps an epoch
    whole, resumed = Look(), Look()
    train(make, False, data, max_epochs=3, callbacks=[whole, SaveAt(6, tmp_path / "middle.ckpt")])
    train(make, False, data, tmp_path / "middle.ckpt", max_epochs=3, callbacks=[resumed])
    assert whole.weights[6:] == resumed.weights
    assert resumed.weights[0] == (6, 4.0)
