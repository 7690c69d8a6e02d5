"""Every loss in one training, in every way that a teacher's targets can come."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from fast_example import assert_same, train
from loss_examples import LOSSES
from recorded_graph import Captures
from torch.optim import SGD

from kd_lightning.data.augment import HorizontalFlip, RandomCrop
from kd_lightning.losses import (
    AttentionTransfer,
    CellCosine,
    CrossEntropy,
    FeatureRegression,
    HiddenCosine,
    Loss,
    ReviewKD,
    SoftTargets,
)
from kd_lightning.networks import DeepNN, LightNN
from kd_lightning.tasks import Distill
from kd_lightning.teacher import Teacher

TRAINED: dict[str, Callable[[], Loss]] = {
    "labels": lambda: CrossEntropy(label_smoothing=0.1),
    "kd": SoftTargets,
    "cosine": lambda: HiddenCosine("features"),
    "fitnet": lambda: FeatureRegression("features", projector="3x3 normalized"),
    "cells": lambda: CellCosine("features"),
    "at": lambda: AttentionTransfer(["features.1", "features"], ["features.3", "features"], weight=10.0, warm_up=2),
    "reviewkd": lambda: ReviewKD(["features.1", "features"], ["features.3", "features"], warm_up=2),
}
"""Losses between LightNN and DeepNN for images of 8 pixels: ``features`` is 16x2x2 and 32x2x2."""


def distill(fast: bool, remember: bool) -> Distill:
    torch.manual_seed(1)
    return Distill(
        LightNN(4, 3, 8),
        Teacher(DeepNN(4, 3, 8)),
        {name: make() for name, make in TRAINED.items()},
        remember_teacher=remember,
        fast=fast,
        optimizer=lambda parameters: SGD(parameters, lr=2**-9, momentum=0.5, fused=True),
    )


@pytest.mark.parametrize("views", [None, 3], ids=["one view", "three views"])
def test_every_loss_is_the_same_live_remembered_and_captured(views: int | None, captured_on_cpu: Captures) -> None:
    data: dict[str, Any] = {"count": 100}
    if views is not None:
        data |= {"augment": [RandomCrop(padding=1), HorizontalFlip()], "views": views}
    epochs = 3 if views else 2
    live = train(partial(distill, remember=False), False, data, max_epochs=epochs)
    for fast in (False, True):
        other = train(partial(distill, remember=True), fast, data, max_epochs=epochs)
        assert_same(live, other, exact=False)
        for name, expected in live[0].callback_metrics.items():
            if not name.endswith("accuracy"):
                found = float(other[0].callback_metrics[name])
                assert found == pytest.approx(float(expected), rel=1e-5, abs=1e-5), name
    assert captured_on_cpu.replays > 2


def test_every_loss_is_trained_above() -> None:
    assert {type(make()) for make in TRAINED.values()} == {type(make()) for make in LOSSES.values()}
