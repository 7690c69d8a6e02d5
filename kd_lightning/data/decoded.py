"""The base of data sources whose images are encoded, as files are: decoded once, and cached."""

import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from kd_lightning.data.base import ImageDataModule
from kd_lightning.data.decode import Decoded, decode_images
from kd_lightning.data.folder_files import Files, part, with_unlabelled
from kd_lightning.data.loader import BatchLoader, LabelledImages
from kd_lightning.data.normalize import Normalization
from kd_lightning.data.pixel_range import check_range
from kd_lightning.data.read_ahead import row_reader
from kd_lightning.data.source import Split
from kd_lightning.data.split import lacking, repeated
from kd_lightning.data.unlabelled import UNLABELLED
from kd_lightning.errors import UserError
from kd_lightning.inference.images import BrokenImageError, ImageFile, PixelRange, Pixels
from kd_lightning.wording import shown

KINDS: dict[Split, str] = {"val": "validation", "test": "test"}


class DecodedDataModule(ImageDataModule):
    """Serve encoded images, which are decoded before training starts, on all cores, and cached on disk.

    A subclass lists them (``list_images``), and names the place that they come from (``root``).

    Args:
        root: The place that the images come from; caches of older images of the same place are removed.
        image_size: Height and width in pixels to which the images are resized.
        channels: 3 for colour, 1 for grey.
        test_size: Test images that are split off the training images where there is no test split, stratified: a share
            in (0, 1) or a number of images.
        on_broken: Whether images that cannot be read ``stop`` the run before it starts, all of them listed, or are left
            out (``skip``).
        cache_dir: Folder of the cache; ``kd_lightning`` in the user's cache folder where it is not given.
        unlabelled: Folder of further training images, which have no label: all images in it and in the folders in it.
            Losses that need no label learn from them, too.
        pixel_range: Values of black and white in files of more than 8 bits, such as ``[0, 4095]`` for 12 bits in 16;
            what lies outside is clipped. Found and printed where it is not given.
        normalize: ``auto`` (the exact statistics of the training images), ``imagenet`` (3 channels), or a mean and std
            a channel.
    """

    in_channels = 3
    image_size = 32

    def __init__(
        self,
        root: Path,
        image_size: int = 32,
        channels: Literal[1, 3] = 3,
        test_size: float = 0.2,
        on_broken: Literal["stop", "skip"] = "stop",
        cache_dir: str | None = None,
        unlabelled: str | None = None,
        pixel_range: tuple[float, float] | None = None,
        normalize: Literal["imagenet", "auto"] | Normalization = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(normalize=normalize, **kwargs)
        if image_size < 1:
            raise UserError(f"image_size {image_size} must be 1 pixel or more; set --data.image_size.")
        if test_size <= 0:
            raise UserError(
                f"test_size {test_size} must be a share in (0, 1) or a number of images; set --data.test_size."
            )
        check_range(pixel_range)
        self.root = root
        self.image_size = image_size
        self.in_channels = channels
        self.test_size = test_size
        self.on_broken: Literal["stop", "skip"] = on_broken
        self.cache_dir = cache_dir
        self.unlabelled = None if unlabelled is None else Path(unlabelled)
        self._given_range = pixel_range

    @abstractmethod
    def list_images(self) -> dict[Split, Files]:
        """Return the images of each split that there is, with their labels; ``train`` is the first."""

    def place_of(self, split: Split) -> Path:
        """Return where a split's images come from, for messages."""
        return self.root

    @property
    def pixel_range(self) -> PixelRange | None:
        """Values of black and white in files of more than 8 bits; this decodes all splits."""
        return self._decoded.pixel_range

    @property
    def file_names(self) -> Sequence[str] | None:
        """Names of the training images' files, in their order; ``None`` where they are no files."""
        kept, names = self._decoded.kept, self._files["train"].names
        if not isinstance(names[0], str | Path):
            return None
        return [str(names[place]) for place in kept[kept < len(names)]]

    @property
    def broken(self) -> tuple[BrokenImageError, ...]:
        """The files that cannot be read and were left out; this decodes all splits."""
        return self._decoded.broken

    def prepare_data(self) -> None:
        """Decode all images once a machine, so that broken ones stop the run before it starts."""
        _ = self._splits

    def load(self, split: Split) -> LabelledImages | None:
        """Return a split; ``None`` for ``val`` where there is none."""
        return self._splits.get(split)

    def train_dataloader(self) -> BatchLoader:
        """Serve the training images, shuffled; each batch is requested from the cache's file before it is read."""
        loader = super().train_dataloader()
        if loader.data is self.split("train"):  # and not a copy on the GPU
            loader.read_ahead = row_reader(self._decoded.images)  # the training images are its first
        return loader

    @cached_property
    def _files(self) -> dict[Split, Files]:
        """All images, with the test images split off where there is no test split."""
        files = self.list_images()
        if "test" not in files:
            files["train"], files["test"] = part(files["train"], self.test_size, self.split_seed)
        return files if self.unlabelled is None else with_unlabelled(files, self.unlabelled)

    @property
    def _names(self) -> list[ImageFile]:
        return [name for files in self._files.values() for name in files.names]

    @cached_property
    def _decoded(self) -> Decoded:
        """The images of all splits, one split after the other."""
        decoded = decode_images(
            self._names,
            self.image_size,
            self.in_channels,
            root=self.unlabelled or self.root,  # a run on the labelled images alone keeps its own cache
            on_broken=self.on_broken,
            cache_dir=self.cache_dir,
            pixel_range=self._given_range,
            train=len(self._files["train"].names),
        )
        if decoded.broken:
            first = decoded.broken[0]
            rank_zero_warn(
                f"{len(decoded.broken):,} of {len(self._names):,} images cannot be read and are left out; "
                f"the first is {shown(first.path)}: {shown(first.reason)}."
            )
        return decoded

    @cached_property
    def _splits(self) -> dict[Split, LabelledImages]:
        images, kept = self._decoded[:2]
        splits: dict[Split, LabelledImages] = {}
        start = 0
        for split, files in self._files.items():
            first, last = np.searchsorted(kept, [start, start + len(files.names)])
            labels = files.labels[torch.from_numpy(kept[first:last] - start)]
            splits[split] = LabelledImages(_as_tensor(images[first:last]), labels)
            start += len(files.names)
        self._check(splits)
        self._warn_of_repeats(splits)
        return splits

    def _check(self, splits: Mapping[Split, LabelledImages]) -> None:
        """Refuse splits and training classes of which no image can be read; warn of classes without images."""
        for split, data in splits.items():
            if not len(data.labels):
                raise UserError(f"no {split} image in {self.place_of(split)} can be read; fix them or remove them all.")
        labels = splits["train"].labels
        labels = labels[labels != UNLABELLED]
        if len(labels) and (sentence := lacking("training", labels, self.class_names)) is not None:
            if self.broken:
                raise UserError(f"none of their files can be read: {sentence} Fix them or remove the folders.")
            rank_zero_warn(sentence)
        if (sentence := lacking("test", splits["test"].labels, self.class_names)) is not None:
            rank_zero_warn(sentence)

    def _warn_of_repeats(self, splits: Mapping[Split, LabelledImages]) -> None:
        """Warn where images of other splits are also training images."""
        images, kept, names = self._decoded.images, self._decoded.kept, self._names
        train = start = len(splits["train"].labels)
        for split in [split for split in splits if split != "train"]:
            end = start + len(splits[split].labels)
            same = repeated(images[:train], images[start:end])
            if same:
                one, other = (shown(names[kept[position]]) for position in (same[0][0], start + same[0][1]))
                rank_zero_warn(
                    f"{len(same):,} of {end - start:,} {KINDS[split]} images are training images, too, pixel for "
                    f"pixel, as {other} is {one}; they do not measure accuracy on new images."
                )
            start = end


def _as_tensor(images: Pixels) -> Tensor:
    """Make a tensor that shares the array's memory; nothing writes to it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(images)
