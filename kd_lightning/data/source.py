"""A labelled set of images: its splits, and the rows of each that train, validate and test."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from kd_lightning.data.loader import LabelledImages
from kd_lightning.data.normalize import IMAGENET, Normalization, channel_statistics
from kd_lightning.data.split import lacking, stratified_split
from kd_lightning.data.unlabelled import UNLABELLED
from kd_lightning.errors import UserError
from kd_lightning.inference.images import BrokenImageError, PixelRange
from kd_lightning.wording import counted

Split = Literal["train", "val", "test"]


class ImageSource(ABC):
    """Load each split once, and select the rows that train, validate and test.

    Args:
        val_size: Validation images that are split off the training images: a share in [0, 1) or a number of images.
        normalize: ``imagenet``, ``auto``, or a mean and std a channel.
        split_seed: Seed of the split of validation images.
    """

    def __init__(
        self, val_size: float, normalize: Literal["imagenet", "auto"] | Normalization, split_seed: int
    ) -> None:
        self.val_size = val_size
        self.normalize = normalize
        self.split_seed = split_seed
        self._loaded: dict[Split, LabelledImages | None] = {}

    @property
    @abstractmethod
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the labels; known before loading."""

    @property
    @abstractmethod
    def in_channels(self) -> int:
        """Channels of an image: 1 (grey) or 3 (colour); known before loading."""

    @property
    @abstractmethod
    def image_size(self) -> int:
        """Height and width of an image in pixels; known before loading."""

    @abstractmethod
    def load(self, split: Split) -> LabelledImages | None:
        """Read one split of the source; ``None`` where it has none of that name (only ``val`` may be missing).

        The label of a training image without one is -1.
        """

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def has_val(self) -> bool:
        """Whether there are validation images; known before loading."""
        return self.val_size > 0

    @cached_property
    def normalization(self) -> Normalization:
        """The normalization of the images; ``auto`` reads the training images."""
        if self.normalize == "auto":
            return channel_statistics(self.split("train").images)
        chosen = Normalization(*IMAGENET) if isinstance(self.normalize, str) else self.normalize
        if len(chosen.mean) != self.in_channels:
            raise UserError(
                f"the images have {self.in_channels} channel(s), but the normalization {len(chosen.mean)}; "
                "use --data.normalize auto."
            )
        return chosen

    @property
    def pixel_range(self) -> PixelRange | None:
        """Values of black and white in image files of more than 8 bits; ``None`` where the source has none of these."""
        return None

    @property
    def file_names(self) -> Sequence[str] | None:
        """Names of the training images' files, in their order; ``None`` where the source has none."""
        return None

    @property
    def broken(self) -> tuple[BrokenImageError, ...]:
        """The files that could not be read and were left out; reads them all."""
        return ()

    def split(self, name: Split) -> LabelledImages:
        """Return all images of a split; the first call loads them.

        Raises:
            UserError: The source has no such split.
        """
        if (data := self._load_once(name)) is None:
            raise UserError(
                f"{type(self).__name__} has no {name} images of its own; they are split off its training images."
            )
        return data

    def _load_once(self, name: Split) -> LabelledImages | None:
        if name not in self._loaded:
            self._loaded[name] = self.load(name)
        return self._loaded[name]

    def train_rows(self) -> tuple[LabelledImages, Tensor]:
        """Return the set that holds the training images, and their rows in it."""
        return self.split("train"), self.split_rows[0]

    def val_rows(self) -> tuple[LabelledImages, Tensor]:
        """Return the set that holds the validation images, and their rows in it."""
        rows, own = self.split_rows[1], self._load_once("val")
        return (self.split("train"), rows) if own is None else (own, torch.arange(len(own.labels)))

    @property
    def num_unlabelled(self) -> int:
        """Number of training images without a label."""
        data, rows = self.train_rows()
        return int((data.labels[rows] == UNLABELLED).sum())

    @property
    def validates_on_training_set(self) -> bool:
        """Whether the validation images are rows of the set that the training images are in."""
        return self.has_val and self.val_rows()[0] is self.train_rows()[0]

    def test_rows(self) -> tuple[LabelledImages, Tensor]:
        """Return the set that holds the test images, and their rows in it."""
        data = self.split("test")
        return data, torch.arange(len(data.labels))

    @cached_property
    def split_rows(self) -> tuple[Tensor, Tensor]:
        """The rows of the training images that train, and those that validate.

        Raises:
            UserError: There is to be validation, and there are no images for it.
        """
        labels, own = self.split("train").labels, self._load_once("val")
        labelled, unlabelled = (has.nonzero().flatten() for has in (labels != UNLABELLED, labels == UNLABELLED))
        first, second = stratified_split(labels[labelled], self.val_size if own is None else 0, self.split_seed)
        rows = torch.cat([labelled[first], unlabelled]), labelled[second]
        validated = labels[rows[1]] if own is None else own.labels
        if self.has_val and not len(validated):
            kind = "labelled training image" if len(unlabelled) else "training image"
            raise UserError(
                f"--data.val_size {self.val_size:g} of {counted(len(labelled), kind)} leaves none for "
                "validation; set --data.val_size to 0, which validates on nothing, or to more, or give more images."
            )
        if self.has_val and (sentence := lacking("validation", validated, self.class_names)) is not None:
            rank_zero_warn(sentence)
        return rows
