"""Outputs of two small networks, and losses built for them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kd_lightning.data.loader import Batch
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
from kd_lightning.networks.layers import LOGITS, Outputs, Shapes

STUDENT: Shapes = {"body": (3, 4, 4), LOGITS: (5,), "deep": (4, 2, 2), "flat": (6,)}
TEACHER: Shapes = {"body": (6, 4, 4), "deep": (6, 2, 2), LOGITS: (5,), "flat": (7,)}

LABELS = torch.arange(16) % 5
"""The class of each image of a data set."""

LOSSES: dict[str, Callable[[], Loss]] = {
    "labels": CrossEntropy,
    "smoothed labels": lambda: CrossEntropy(label_smoothing=0.1),
    "soft targets": lambda: SoftTargets(temperature=3.0),
    "soft targets, standardized": lambda: SoftTargets(temperature=1.5, standardize=True),
    "logit regression": LogitRegression,
    "logit regression, standardized": lambda: LogitRegression(standardize=True),
    "dkd": lambda: DKD(temperature=3.0, alpha=1.5),
    "dkd, standardized": lambda: DKD(temperature=1.5, beta=2.0, standardize=True),
    "nkd": NKD,
    "nkd, standardized": lambda: NKD(temperature=1.5, gamma=2.0, standardize=True),
    "dist": lambda: DIST(temperature=3.0, gamma=0.5),
    "dist, standardized": lambda: DIST(temperature=1.5, beta=0.5, standardize=True),
    "ttm": TTM,
    "ttm, standardized": lambda: TTM(gamma=0.5, standardize=True),
    "wttm": WTTM,
    "wttm, standardized": lambda: WTTM(gamma=0.5, standardize=True),
    "hidden cosine": lambda: HiddenCosine("body"),
    "feature regression": lambda: FeatureRegression("body"),
    "feature regression, 1x1": lambda: FeatureRegression("body", projector="1x1"),
    "feature regression, normalized": lambda: FeatureRegression("body", projector="3x3 normalized"),
    "feature regression, ConvReg": lambda: FeatureRegression("body", "deep", projector="ConvReg"),
    "feature regression, transposed": lambda: FeatureRegression("deep", "body", projector="ConvReg"),
    "spatial cosine": lambda: SpatialCosine("body"),
    "attention": lambda: AttentionTransfer(["body"], ["deep"]),
    "review": lambda: ReviewKD(["body", "deep"]),
    "review of vectors": lambda: ReviewKD(["body", "flat"]),
    "similarity": lambda: SimilarityPreserving("body", "deep"),
    "pkt": lambda: PKT("body", "deep"),
    "rkd": lambda: RKD("body", "deep"),
    "vid": lambda: VID("body"),
    "vid, averaged": lambda: VID("body", "deep"),
    "srd": lambda: SRD("body"),
    "srd, averaged": lambda: SRD("body", "deep"),
    "contrast": lambda: CRD("body", dimensions=4, negatives=6, temperature=0.5),
    "contrast of vectors": lambda: CRD("flat", dimensions=4, negatives=6, temperature=0.5),
}
"""Every loss, in each variant of its code, for ``STUDENT`` and ``TEACHER``."""


def outputs(shapes: Shapes, count: int = 4, seed: int = 0, dtype: torch.dtype = torch.float64) -> Outputs:
    generator = torch.Generator().manual_seed(seed)
    values = {
        name: torch.randn(count, *shape, generator=generator, dtype=torch.float64).to(dtype)
        for name, shape in shapes.items()
    }
    return Outputs(values.pop(LOGITS), values)


def batch(count: int = 4, classes: int = 5) -> Batch:
    return Batch(torch.zeros(count, 3, 8, 8), torch.arange(count) % classes, torch.arange(count))


def built(loss: Loss, student: Shapes | None = None, teacher: Shapes | None = None) -> Loss:
    torch.manual_seed(0)
    loss.build(student or STUDENT, teacher or TEACHER)
    loss.start(16, LABELS)
    return loss.double()


def value(loss: Loss, count: int = 4, **options: Any) -> Tensor:
    target = loss.teacher_target(outputs(TEACHER, count, seed=1, **options))
    result: Tensor = loss(outputs(STUDENT, count, seed=2, **options), target, batch(count))
    return result
