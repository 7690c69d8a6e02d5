"""Data and networks small enough for tests: 8x8 images whose class a network learns in a few steps."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from kd_lightning.data import ImageDataModule
from kd_lightning.data.loader import LabelledImages
from kd_lightning.data.normalize import Normalization
from kd_lightning.data.source import Split
from kd_lightning.networks import Network


def tiny_images(count: int, classes: int, seed: int, channels: int = 3, size: int = 8) -> LabelledImages:
    """Draw noise whose upper left quarter is brighter for a larger class number."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    images = torch.randint(0, 100, (count, size, size, channels), generator=generator, dtype=torch.uint8)
    images[:, : size // 2, : size // 2] += (labels * (150 // classes)).to(torch.uint8)[:, None, None, None]
    return LabelledImages(images, labels)


class TinyDataModule(ImageDataModule):
    """The requested number of tiny images."""

    in_channels = 3
    image_size = 8

    def __init__(
        self,
        count: int = 120,
        classes: int = 4,
        batch_size: int = 32,
        normalize: Literal["imagenet", "auto"] | Normalization = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(batch_size=batch_size, normalize=normalize, **kwargs)
        self.count = count
        self.classes = classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name the classes."""
        return tuple(f"shade {i}" for i in range(self.classes))

    def load(self, split: Split) -> LabelledImages | None:
        """Draw the images of a split."""
        return None if split == "val" else tiny_images(self.count, self.classes, seed=int(split == "test"))


class TinyNetwork(Network):
    """A network of a user's own, with batch normalization and an argument of its own."""

    works_with_fast_path = True

    def __init__(self, num_classes: int = 4, in_channels: int = 3, image_size: int = 8, width: int = 4) -> None:
        super().__init__(num_classes, in_channels, image_size, width=width)
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, width, 3, padding=1, stride=2), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.head = nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of the means of the body's map, of half the image's size."""
        return self.head(self.features(images).mean((2, 3)))  # type: ignore[no-any-return]


class PartlyLabelled(TinyDataModule):
    """Of each three training images two have no label, or all where ``labelled`` is false."""

    labelled = True

    def load(self, split: Split) -> LabelledImages | None:
        """Drop labels of training images."""
        found = super().load(split)
        if found is None or split != "train":
            return found
        lacks = torch.arange(self.count) % 3 > 0 if self.labelled else torch.ones(self.count, dtype=torch.bool)
        return found._replace(labels=found.labels.masked_fill(lacks, -1))


class Unlabelled(PartlyLabelled):
    """No training image has a label."""

    labelled = False
    has_val = False
