"""Noise images in place of a data set in a benchmark: the cost of a step does not depend on the content."""

import torch
from torch import Tensor

from kd_lightning.data import ImageDataModule
from kd_lightning.data.loader import LabelledImages
from kd_lightning.data.source import Split

DISTINCT = 512
"""Different images in all their views; rows repeat them, so that a cached teacher sees few images."""

MIN_DISTINCT = 64
"""Fewest different images, for any number of views."""


class Noise(ImageDataModule):
    """Noise with the size, classes, augmentation, views and batches of another data source, of which nothing is loaded.

    Args:
        like: The data source that it replaces.
        batches: Training batches an epoch.
        val_images: Validation images.
    """

    class_names: tuple[str, ...] = ()
    in_channels = 3
    image_size = 32

    def __init__(self, like: ImageDataModule, batches: int, val_images: int = 0) -> None:
        super().__init__(
            like.batch_size,
            val_images,
            like.normalize,
            like.augment,
            like.views,
            shuffle_seed=0,
            eval_batch_size=like.eval_batch_size,
            drop_last=like.drop_last,
        )
        self._batches = batches
        self.class_names, self.in_channels, self.image_size = like.class_names, like.in_channels, like.image_size
        self.distinct = max(MIN_DISTINCT, DISTINCT // (self.seen_views.count or 1))

    def load(self, split: Split) -> LabelledImages | None:
        """Draw the images."""
        if split == "val":
            return None
        size = (self.distinct, self.image_size, self.image_size, self.in_channels)
        images = torch.randint(256, size, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
        return LabelledImages(images, torch.arange(self.distinct) % self.num_classes)

    def setup(self, stage: str) -> None:
        """Draw the images, before anything runs."""
        self.split("train")
        _ = self.normalization

    def train_rows(self) -> tuple[LabelledImages, Tensor]:
        """Return the images, and as many rows of them as the batches need."""
        return self.split("train"), torch.arange(self._batches * self.batch_size) % self.distinct

    def val_rows(self) -> tuple[LabelledImages, Tensor]:
        """Return the images, and as many rows of them as validate."""
        return self.split("train"), torch.arange(int(self.val_size)) % self.distinct
