"""Augmentation of whole batches on the device, with independent draws for each image."""

from kd_lightning.data.augment.automatic import RandAugment, TrivialAugment
from kd_lightning.data.augment.base import Augmentation
from kd_lightning.data.augment.color import ColorJitter
from kd_lightning.data.augment.erasing import Cutout
from kd_lightning.data.augment.mixing import CutMix, Mixup
from kd_lightning.data.augment.moves import AlternatingFlip, HorizontalFlip, PixelMove, RandomCrop, RandomTranslate
from kd_lightning.data.augment.pipeline import Pipeline

__all__ = [
    "AlternatingFlip",
    "Augmentation",
    "ColorJitter",
    "CutMix",
    "Cutout",
    "HorizontalFlip",
    "Mixup",
    "Pipeline",
    "PixelMove",
    "RandAugment",
    "RandomCrop",
    "RandomTranslate",
    "TrivialAugment",
]
