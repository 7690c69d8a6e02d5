"""Which classes are known to work with the fast path: all of this package's, and of a user's those that say so."""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from typing import Any

import pytest
from fast_cases import NO_MARK
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.strategies import Strategy
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

import kd_lightning
from kd_lightning.data.augment import Augmentation, HorizontalFlip, Pipeline
from kd_lightning.data.base import ImageDataModule
from kd_lightning.data.loader import BatchLoader, RowSampler
from kd_lightning.fast.known import is_known, unknown
from kd_lightning.fast.reasons import BEFORE_STEPS

OURS: dict[type[Any], str] = {
    Callback: """AsksWhy EndAtFirstStep EpochClock ExportONNX KeepCheckpoint LogContactSheet LogGradientNorms Measure
        MeasureBaseline MeasuredWeights QuantizeONNX RunFolder RunSummary SaveConfig SaveOnInterrupt SaveWeights
        TrainAhead ValidationClock _LiveTeacher _TimeSteps""",
    nn.Module: """AttentionTransfer CRD Classifier CosineDistill CrossEntropy DIST DKD DeepNN Distill FactoredWeight
        FeatureRegressDistill FeatureRegression FusableLayer Fusion GlobalAvgPool GlobalMaxPool HiddenCosine
        ImageMean LightNN LogitRegression MetricsModule MobileNetV2 ModuleNetwork NKD Norm Objective PKT RKD ResNet
        ResNet9 ReviewKD SRD ShuffleNetV1 ShuffleNetV2 SimilarityPreserving SoftTargets SpatialCosine TTM Task
        Teacher TimmNetwork TorchvisionNetwork VGG VID WTTM WholeWeight WideResNet _Block _Block _Convolutions
        _GroupedUnit _HalvingUnit _InvertedResidual _Residual _Shuffle _SplitUnit _TutorialNetwork""",
    Augmentation: "ColorJitter CutMix Cutout HorizontalFlip Mixup RandomCrop RandomTranslate",
    LRScheduler: "OneCycle",
    **dict.fromkeys((BatchLoader, Optimizer, Pipeline, Precision, RowSampler, Strategy, Trainer), ""),
}
"""Our classes that run in steps, by base. A new one is listed only if it need not see every batch, does not log in a
step, and reads nothing from Python that changes between steps."""


def ours(base: type[Any]) -> set[type[Any]]:
    """Return this package's subclasses of a class."""
    for module in pkgutil.walk_packages(kd_lightning.__path__, "kd_lightning."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    return {kind for kind in subclasses(base) if kind.__module__.startswith("kd_lightning.")}


def subclasses(base: type[Any]) -> Iterator[type[Any]]:
    for kind in base.__subclasses__():
        yield kind
        yield from subclasses(kind)


@pytest.mark.parametrize("base", OURS)
def test_every_class_of_ours_that_runs_in_steps_is_listed_and_known(base: type[Any]) -> None:
    kinds = [kind for kind in ours(base) if not inspect.isabstract(kind)]
    assert sorted(kind.__name__ for kind in kinds) == OURS[base].split()
    assert all(is_known(kind) for kind in kinds)


def test_no_data_of_ours_changes_how_a_step_uses_the_images() -> None:
    kinds = ours(ImageDataModule)
    assert kinds
    own = {name for kind in kinds for name, value in vars(kind).items() if callable(value) or hasattr(value, "__get__")}
    assert {name for name in own if hasattr(ImageDataModule, name)} <= BEFORE_STEPS


class Own(HorizontalFlip):
    """Subclass of one of our classes, with changes that nobody knows."""


class Marked(Own):
    works_with_fast_path = True


class OfMarked(Marked): ...


class Extra:
    """Class of a package whose name only begins like ours."""

    __module__ = "kd_lightning_extra.networks"


@pytest.mark.parametrize("kind", [HorizontalFlip, Own, Marked, OfMarked, Extra])
def test_a_class_of_a_users_own_is_known_only_where_it_says_so_itself(kind: type[Any]) -> None:
    expected = "" if kind in (HorizontalFlip, Marked) else f"{kind.__name__} {NO_MARK}"
    assert re.fullmatch(expected, "".join(unknown(kind())))
