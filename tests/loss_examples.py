"""Two small networks, outputs of their shapes, and all losses between them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from kd_lightning.data.loader import Batch
from kd_lightning.losses import (
    CATKD,
    CRD,
    CTKD,
    DIST,
    DKD,
    ICKD,
    MGD,
    MLKD,
    NKD,
    NST,
    OFD,
    PKT,
    RKD,
    RLD,
    SRD,
    TTM,
    VID,
    WTTM,
    AttentionTransfer,
    CrossEntropy,
    FeatureRegression,
    HardTargets,
    HiddenCosine,
    LogitRegression,
    Loss,
    ReviewKD,
    SimilarityPreserving,
    SoftTargets,
    SpatialCosine,
)
from kd_lightning.networks import Network
from kd_lightning.networks.layers import LOGITS, Outputs, Shapes

STUDENT: Shapes = {"body": (3, 4, 4), LOGITS: (5,), "deep": (4, 2, 2), "flat": (6,)}
TEACHER: Shapes = {"body": (6, 4, 4), "deep": (6, 2, 2), LOGITS: (5,), "flat": (7,)}

LABELS = torch.arange(16) % 5
"""The class of each image of a data set."""

LOSSES: dict[str, Callable[[], Loss]] = {
    "labels": CrossEntropy,
    "smoothed_labels": lambda: CrossEntropy(label_smoothing=0.1),
    "soft_targets": lambda: SoftTargets(temperature=3.0),
    "soft_targets_standardized": lambda: SoftTargets(temperature=1.5, standardize=True),
    "hard_targets": HardTargets,
    "logit_regression": LogitRegression,
    "logit_regression_standardized": lambda: LogitRegression(standardize=True),
    "dkd": lambda: DKD(temperature=3.0, alpha=1.5),
    "dkd_standardized": lambda: DKD(temperature=1.5, beta=2.0, standardize=True),
    "nkd": NKD,
    "nkd_standardized": lambda: NKD(temperature=1.5, gamma=2.0, standardize=True),
    "dist": lambda: DIST(temperature=3.0, gamma=0.5),
    "dist_standardized": lambda: DIST(temperature=1.5, beta=0.5, standardize=True),
    "ttm": TTM,
    "ttm_standardized": lambda: TTM(gamma=0.5, standardize=True),
    "wttm": WTTM,
    "wttm_standardized": lambda: WTTM(gamma=0.5, standardize=True),
    "rld": lambda: RLD(temperature=3.0, alpha=1.5),
    "rld_standardized": lambda: RLD(temperature=1.5, beta=2.0, standardize=True),
    "mlkd": lambda: MLKD([2.0, 3.0], batch_factor=0.5),
    "mlkd_standardized": lambda: MLKD([1.5], class_factor=0.5, standardize=True),
    "ctkd": lambda: CTKD(lowest=0.2, span=1.0, curriculum=0),
    "ctkd_standardized": lambda: CTKD(span=2.0, curriculum=0, standardize=True),
    "hidden_cosine": lambda: HiddenCosine("body"),
    "feature_regression": lambda: FeatureRegression("body"),
    "feature_regression_1x1": lambda: FeatureRegression("body", projector="1x1"),
    "feature_regression_normalized": lambda: FeatureRegression("body", projector="3x3 normalized"),
    "feature_regression_convreg": lambda: FeatureRegression("body", "deep", projector="ConvReg"),
    "feature_regression_transposed": lambda: FeatureRegression("deep", "body", projector="ConvReg"),
    "spatial_cosine": lambda: SpatialCosine("body"),
    "attention": lambda: AttentionTransfer(["body"], ["deep"]),
    "review": lambda: ReviewKD(["body", "deep"]),
    "review_of_vectors": lambda: ReviewKD(["body", "flat"]),
    "similarity": lambda: SimilarityPreserving("body", "deep"),
    "pkt": lambda: PKT("body", "deep"),
    "rkd": lambda: RKD("body", "deep"),
    "vid": lambda: VID("body"),
    "vid_averaged": lambda: VID("body", "deep"),
    "srd": lambda: SRD("body"),
    "srd_averaged": lambda: SRD("body", "deep"),
    "ofd": lambda: OFD(["body", "deep"]),
    "ofd_averaged": lambda: OFD("body", "deep"),
    "nst": lambda: NST("body", "deep"),
    "ickd": lambda: ICKD("body", "deep"),
    "mgd": lambda: MGD("body", "deep"),
    "mgd_of_positions": lambda: MGD("body", masked="positions", share=0.6),
    "class_attention": lambda: CATKD("flat", resolution=1, normalize=False),
    "contrast": lambda: CRD("body", dimensions=4, negatives=6, temperature=0.5),
    "contrast_of_vectors": lambda: CRD("flat", dimensions=4, negatives=6, temperature=0.5),
}
"""Every loss, in each variant of its code, for ``STUDENT`` and ``TEACHER``, and for ``Layers`` of these shapes.

SimKD has a network of its own."""


class Layers(Network):
    """A network with the layers of ``STUDENT``, or of ``TEACHER`` by the numbers of its channels."""

    works_with_fast_path = True

    def __init__(
        self,
        num_classes: int = 5,
        in_channels: int = 3,
        image_size: int = 8,
        body: int = 3,
        deep: int = 4,
        flat: int = 6,
    ) -> None:
        super().__init__(num_classes, in_channels, image_size, body=body, deep=deep, flat=flat)
        self.body = nn.Conv2d(in_channels, body, 3, padding=1, stride=2)
        self.deep = nn.Conv2d(body, deep, 3, padding=1, stride=2)
        self.flat = nn.Linear(4 * deep, flat)
        self.head = nn.Linear(flat, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.flat(self.deep(self.body(images).relu()).relu().flatten(1)).relu())  # type: ignore[no-any-return]


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
    loss.attach(Layers(), Layers(body=6, deep=6, flat=7), None)
    loss.start(16, LABELS)
    return loss.double()


def value(loss: Loss, count: int = 4, **options: Any) -> Tensor:
    target = loss.teacher_target(outputs(TEACHER, count, seed=1, **options))
    result: Tensor = loss(outputs(STUDENT, count, seed=2, **options), target, batch(count))
    return result


def compared(loss: Loss, student: Tensor, teacher: Tensor) -> tuple[float, Tensor]:
    """Build a loss for the layer ``body`` of any shape, and return its value and the student's gradient."""
    own = student.clone().requires_grad_()
    logits = torch.zeros(len(own), 5, dtype=own.dtype)
    loss.build(*({"body": tuple(given.shape[1:]), LOGITS: (5,)} for given in (student, teacher)))
    target = loss.teacher_target(Outputs(logits, {"body": teacher}))
    result = loss.to(own.dtype)(Outputs(logits, {"body": own}), target, batch(len(own)))
    return result.item(), torch.autograd.grad(result, own)[0]
