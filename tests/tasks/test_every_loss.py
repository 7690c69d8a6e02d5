"""Every loss in one training, with the teacher's targets computed, cached or captured."""

from collections.abc import Callable, Iterable
from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from fast_example import assert_same, train
from loss_examples import LOSSES
from recorded_graph import Captures
from torch.optim import SGD

from kd_lightning.data.augment import CutMix, HorizontalFlip, Mixup, RandomCrop
from kd_lightning.errors import UserError
from kd_lightning.losses import (
    CRD,
    DIST,
    DKD,
    NKD,
    PKT,
    RKD,
    SRD,
    TTM,
    VID,
    WTTM,
    AttentionTransfer,
    CrossEntropy,
    FeatureRegression,
    HiddenCosine,
    LogitRegression,
    Loss,
    ReviewKD,
    SimilarityPreserving,
    SoftTargets,
    SpatialCosine,
)
from kd_lightning.networks import DeepNN, LightNN
from kd_lightning.tasks import Distill
from kd_lightning.teacher import Teacher

TRAINED: dict[str, Callable[[], Loss]] = {
    "labels": lambda: CrossEntropy(label_smoothing=0.1),
    "kd": SoftTargets,
    "standardized": lambda: SoftTargets(temperature=1.0, standardize=True),
    "mse": LogitRegression,
    "dkd": lambda: DKD(beta=2.0, warm_up=2),
    "nkd": lambda: NKD(gamma=0.5, weight=0.5),
    "dist": lambda: DIST(weight=0.1),
    "ttm": lambda: TTM(weight=1.0),
    "wttm": lambda: WTTM(weight=0.2),
    "cosine": lambda: HiddenCosine("features"),
    "fitnet": lambda: FeatureRegression("features", projector="3x3 normalized"),
    "positions": lambda: SpatialCosine("features"),
    "at": lambda: AttentionTransfer(["features.1", "features"], ["features.3", "features"], weight=10.0, warm_up=2),
    "reviewkd": lambda: ReviewKD(["features.1", "features"], ["features.3", "features"], warm_up=2),
    "sp": lambda: SimilarityPreserving("features", weight=10.0),
    "pkt": lambda: PKT("classifier.1", weight=100.0),
    "rkd": lambda: RKD("classifier.1", weight=0.1),
    "srd": lambda: SRD("classifier.1", weight=0.1),
    "vid": lambda: VID("features", "features.3", weight=0.1),
    "crd": lambda: CRD("classifier.1", negatives=20, dimensions=8),
}
"""Losses between LightNN and DeepNN for images of 8 pixels: ``features`` is 16x2x2 and 32x2x2."""


UNMIXED = [name for name, make in TRAINED.items() if make().needs_hard_labels]


def distill(fast: bool, cache_teacher: bool, names: Iterable[str] = TRAINED) -> Distill:
    torch.manual_seed(1)
    return Distill(
        LightNN(4, 3, 8),
        Teacher(DeepNN(4, 3, 8)),
        {name: TRAINED[name]() for name in names},
        cache_teacher=cache_teacher,
        fast=fast,
        optimizer=lambda parameters: SGD(parameters, lr=2**-9, momentum=0.5, fused=True),
    )


@pytest.mark.parametrize("views", [None, 3], ids=["one view", "three views"])
def test_every_loss_is_the_same_live_cached_and_captured(views: int | None, captured_on_cpu: Captures) -> None:
    data: dict[str, Any] = {"count": 100}
    if views is not None:
        data |= {"augment": [RandomCrop(padding=1), HorizontalFlip()], "views": views}
    epochs = 3 if views else 2
    live = train(partial(distill, cache_teacher=False), False, data, max_epochs=epochs)
    for fast in (False, True):
        other = train(partial(distill, cache_teacher=True), fast, data, max_epochs=epochs)
        assert_same(live, other, exact=False)
        for name, expected in live[0].callback_metrics.items():
            if not name.endswith("accuracy"):
                found = float(other[0].callback_metrics[name])
                assert found == pytest.approx(float(expected), rel=1e-5, abs=1e-5), name
    assert captured_on_cpu.replays > 2


@pytest.mark.parametrize("name", UNMIXED)
@pytest.mark.parametrize("mixing", [Mixup(), CutMix()], ids=["mixup", "cutmix"])
def test_a_loss_that_needs_one_label_of_each_image_refuses_mixed_ones_before_training(name: str, mixing: Any) -> None:
    task = distill(False, False, [name])
    before = deepcopy(task.network.state_dict())
    message = rf"^the loss '{name}' \(.*\) is undefined .* has {type(mixing).__name__}; leave that out, [^.]*\.$"
    with pytest.raises(UserError, match=message):
        train(lambda _: task, False, {"augment": [RandomCrop(padding=1), mixing]})
    for key, values in task.network.state_dict().items():
        assert torch.equal(values, before[key])


def test_all_other_losses_train_on_mixed_images() -> None:
    mixed = [name for name in TRAINED if name not in UNMIXED]
    trainer, _ = train(lambda _: distill(False, False, mixed), False, {"augment": [Mixup(), CutMix()]}, max_epochs=1)
    for name in mixed:
        assert torch.isfinite(trainer.callback_metrics[f"train/{name}"])


def test_every_parameter_of_a_loss_is_trained() -> None:
    task = distill(fast=False, cache_teacher=False)
    before = {name: values.clone() for name, values in task.losses.named_parameters()}
    train(lambda _: task, False, {"count": 16}, max_epochs=1)
    assert {"positions.projector.weight", "srd.projector.weight", "vid.raw_variances"} < before.keys()
    assert [name for name, values in task.losses.named_parameters() if values.equal(before[name])] == []


def test_every_loss_is_trained_above() -> None:
    assert {type(make()) for make in TRAINED.values()} == {type(make()) for make in LOSSES.values()}
