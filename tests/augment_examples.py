"""One of each augmentation, and a batch for them."""

import torch
from torch import Tensor

from kd_lightning.data.augment import (
    AlternatingFlip,
    Augmentation,
    ColorJitter,
    CutMix,
    Cutout,
    HorizontalFlip,
    Mixup,
    Pipeline,
    RandAugment,
    RandomCrop,
    RandomTranslate,
    TrivialAugment,
)

CLASSES, BATCH, HEIGHT, WIDTH, EPOCH = 5, 24, 12, 14, 3
ALL: list[Augmentation] = [
    RandomCrop(padding=3),
    RandomCrop(padding=3, mode="zeros"),
    RandomTranslate(fraction=0.3),
    HorizontalFlip(),
    Cutout(size=5),
    ColorJitter(brightness=0.5, contrast=0.6, saturation=0.7, hue=0.3),
    AlternatingFlip(),
    TrivialAugment(),
    RandAugment(num_ops=3, magnitude=21),
    Mixup(alpha=0.7),
    CutMix(),
]
UNMIXED = [step for step in ALL if not step.mixes_labels]


def name(step: Augmentation) -> str:
    return str(step)


def make_batch(channels: int = 3, count: int = BATCH) -> tuple[Tensor, Tensor, Tensor]:
    """Return uint8 images without black pixels, labels, and shuffled rows."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(1, 256, (count, HEIGHT, WIDTH, channels), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, CLASSES, (count,), generator=generator)
    return images.permute(0, 3, 1, 2), labels, torch.randperm(50_000, generator=generator)[:count]


def run(
    step: Augmentation, images: Tensor, labels: Tensor, rows: Tensor, *, epoch: int | Tensor = EPOCH
) -> tuple[Tensor, Tensor]:
    return Pipeline([step], CLASSES)(images, labels, rows, epoch)
