"""Distillation losses, one per file: the formula as a plain function, then the module that a config names."""

from kd_lightning.data.loader import Batch
from kd_lightning.losses.attention import AttentionTransfer
from kd_lightning.losses.base import Loss, Targets
from kd_lightning.losses.cat import CATKD
from kd_lightning.losses.crd import CRD
from kd_lightning.losses.cross_entropy import CrossEntropy
from kd_lightning.losses.ctkd import CTKD
from kd_lightning.losses.dist import DIST
from kd_lightning.losses.dkd import DKD
from kd_lightning.losses.feature_regression import FeatureRegression
from kd_lightning.losses.hard_targets import HardTargets
from kd_lightning.losses.hidden_cosine import HiddenCosine
from kd_lightning.losses.ickd import ICKD
from kd_lightning.losses.layers import LayerLoss
from kd_lightning.losses.logit_regression import LogitRegression
from kd_lightning.losses.logits import LogitLoss
from kd_lightning.losses.mgd import MGD
from kd_lightning.losses.mlkd import MLKD
from kd_lightning.losses.nkd import NKD
from kd_lightning.losses.nst import NST
from kd_lightning.losses.ofd import OFD
from kd_lightning.losses.pkt import PKT
from kd_lightning.losses.review import ReviewKD
from kd_lightning.losses.rkd import RKD
from kd_lightning.losses.rld import RLD
from kd_lightning.losses.similarity import SimilarityPreserving
from kd_lightning.losses.simkd import SimKD
from kd_lightning.losses.soft_targets import SoftTargets
from kd_lightning.losses.spatial_cosine import SpatialCosine
from kd_lightning.losses.srd import SRD
from kd_lightning.losses.total import LossSum
from kd_lightning.losses.ttm import TTM, WTTM
from kd_lightning.losses.vid import VID
from kd_lightning.networks.layers import Outputs, Shapes

__all__ = [
    "CATKD",
    "CRD",
    "CTKD",
    "DIST",
    "DKD",
    "ICKD",
    "MGD",
    "MLKD",
    "NKD",
    "NST",
    "OFD",
    "PKT",
    "RKD",
    "RLD",
    "SRD",
    "TTM",
    "VID",
    "WTTM",
    "AttentionTransfer",
    "Batch",
    "CrossEntropy",
    "FeatureRegression",
    "HardTargets",
    "HiddenCosine",
    "LayerLoss",
    "LogitLoss",
    "LogitRegression",
    "Loss",
    "LossSum",
    "Outputs",
    "ReviewKD",
    "Shapes",
    "SimKD",
    "SimilarityPreserving",
    "SoftTargets",
    "SpatialCosine",
    "Targets",
]
