"""Datamodules over uint8 tensors."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kd_lightning.data.base import ImageDataModule
    from kd_lightning.data.hugging_face import HuggingFaceDataModule
    from kd_lightning.data.image_folder import ImageFolderDataModule
    from kd_lightning.data.shapes import ShapesDataModule
    from kd_lightning.data.tiny_imagenet import TinyImageNetDataModule
    from kd_lightning.data.torchvision_sets import (
        CIFAR10DataModule,
        CIFAR100DataModule,
        FashionMNISTDataModule,
        MNISTDataModule,
        SVHNDataModule,
    )

__all__ = [
    "CIFAR10DataModule",
    "CIFAR100DataModule",
    "FashionMNISTDataModule",
    "HuggingFaceDataModule",
    "ImageDataModule",
    "ImageFolderDataModule",
    "MNISTDataModule",
    "SVHNDataModule",
    "ShapesDataModule",
    "TinyImageNetDataModule",
]

MODULES = ("base", "hugging_face", "image_folder", "shapes", "tiny_imagenet", "torchvision_sets")


def __getattr__(name: str) -> Any:
    """Import a datamodule on first use, so that the tensor code works without Lightning."""
    if name in __all__:
        modules = (import_module(f"{__name__}.{module}") for module in MODULES)
        return next(getattr(module, name) for module in modules if hasattr(module, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
