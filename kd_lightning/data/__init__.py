"""Datamodules over uint8 tensors."""

from kd_lightning.data.base import ImageDataModule
from kd_lightning.data.image_folder import ImageFolderDataModule
from kd_lightning.data.shapes import ShapesDataModule
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
    "ImageDataModule",
    "ImageFolderDataModule",
    "MNISTDataModule",
    "SVHNDataModule",
    "ShapesDataModule",
]
