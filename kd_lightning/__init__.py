"""Knowledge distillation with PyTorch Lightning.

Its names are imported at their first use, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

import kd_lightning.compare  # noqa: F401 - loaded first: the function takes the name of the package
from kd_lightning.studies import compare

if TYPE_CHECKING:
    from kd_lightning import callbacks, data, losses, networks, tasks
    from kd_lightning.data import (
        CIFAR10DataModule,
        CIFAR100DataModule,
        FashionMNISTDataModule,
        HuggingFaceDataModule,
        ImageDataModule,
        ImageFolderDataModule,
        MNISTDataModule,
        ShapesDataModule,
        SVHNDataModule,
        TinyImageNetDataModule,
    )
    from kd_lightning.errors import UserError
    from kd_lightning.networks import (
        VGG,
        DeepNN,
        LightNN,
        MobileNetV2,
        ModuleNetwork,
        Network,
        ResNet,
        ResNet9,
        ResNet50,
        ShuffleNetV1,
        ShuffleNetV2,
        SimKDStudent,
        TimmNetwork,
        TorchvisionNetwork,
        ViT,
        WideResNet,
    )
    from kd_lightning.prediction.one_image import predict_image
    from kd_lightning.tasks import Classifier, CosineDistill, Distill, FeatureRegressDistill, Task
    from kd_lightning.tasks.schedules import OneCycle
    from kd_lightning.teacher import FileTeacher, Teacher, Teachers
    from kd_lightning.training.trainer import make_trainer

__all__ = [
    "VGG",
    "CIFAR10DataModule",
    "CIFAR100DataModule",
    "Classifier",
    "CosineDistill",
    "DeepNN",
    "Distill",
    "FashionMNISTDataModule",
    "FeatureRegressDistill",
    "FileTeacher",
    "HuggingFaceDataModule",
    "ImageDataModule",
    "ImageFolderDataModule",
    "LightNN",
    "MNISTDataModule",
    "MobileNetV2",
    "ModuleNetwork",
    "Network",
    "OneCycle",
    "ResNet",
    "ResNet9",
    "ResNet50",
    "SVHNDataModule",
    "ShapesDataModule",
    "ShuffleNetV1",
    "ShuffleNetV2",
    "SimKDStudent",
    "Task",
    "Teacher",
    "Teachers",
    "TimmNetwork",
    "TinyImageNetDataModule",
    "TorchvisionNetwork",
    "UserError",
    "ViT",
    "WideResNet",
    "callbacks",
    "compare",
    "data",
    "losses",
    "make_trainer",
    "networks",
    "predict_image",
    "tasks",
]

_MODULES = {
    "FileTeacher": "teacher",
    "OneCycle": "tasks.schedules",
    "Teacher": "teacher",
    "Teachers": "teacher",
    "UserError": "errors",
    "make_trainer": "training.trainer",
    "predict_image": "prediction.one_image",
}
_PACKAGES = ("callbacks", "data", "losses", "networks", "tasks")


def __getattr__(name: str) -> Any:
    """Import what the name stands for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _PACKAGES:
        return import_module(f"{__name__}.{name}")
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    packages = (import_module(f"{__name__}.{package}") for package in ("networks", "data", "tasks"))
    return next(getattr(package, name) for package in packages if name in package.__all__)


def __dir__() -> list[str]:
    """Return also the names that are not imported yet."""
    return sorted({*globals(), *__all__})
