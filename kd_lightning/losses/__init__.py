"""Distillation losses, one a file: a formula as a plain function, and under it the module that a config names."""

from kd_lightning.losses.attention import AttentionTransfer
from kd_lightning.losses.base import LogitLoss, Loss, Targets
from kd_lightning.losses.cell_cosine import CellCosine
from kd_lightning.losses.cross_entropy import CrossEntropy
from kd_lightning.losses.feature_regression import FeatureRegression
from kd_lightning.losses.features import FeatureLoss
from kd_lightning.losses.hidden_cosine import HiddenCosine
from kd_lightning.losses.review import ReviewKD
from kd_lightning.losses.soft_targets import SoftTargets

__all__ = [
    "AttentionTransfer",
    "CellCosine",
    "CrossEntropy",
    "FeatureLoss",
    "FeatureRegression",
    "HiddenCosine",
    "LogitLoss",
    "Loss",
    "ReviewKD",
    "SoftTargets",
    "Targets",
]
