"""The base of all datamodules: one uint8 tensor, served in whole batches, normalized on the device."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from kd_lightning.data.augment import Augmentation, Pipeline
from kd_lightning.data.class_names import check_class_names
from kd_lightning.data.loader import Batch, BatchLoader, LabelledImages, RawBatch, RowSampler, resident
from kd_lightning.data.normalize import Normalization
from kd_lightning.data.source import ImageSource
from kd_lightning.data.unlabelled import MixedLoader, MixedSampler, batch_counts, check_share
from kd_lightning.data.views import Views
from kd_lightning.docstrings import show_options
from kd_lightning.errors import UserError
from kd_lightning.wording import counted

EVAL_PIXELS = {"cpu": 1000 * 32**2, "cuda": 2500 * 32**2}
"""Pixels of an evaluation batch. Lightning's cost is per batch, and DeepNN's feature maps take a kilobyte a pixel."""


class ImageDataModule(ImageSource, LightningDataModule):
    """Serve a labelled set of images in whole batches of rows.

    A subclass describes its images (``class_names``, ``in_channels``, ``image_size``; known before anything is loaded,
    so that networks can be built for them) and loads them (``load``). Each split is loaded once and kept as one uint8
    tensor, on the GPU where it fits there. A subclass that changes how a step uses the images turns the fast path off,
    unless it sets ``works_with_fast_path = True`` itself.

    Args:
        batch_size: Images a training batch, per process.
        val_size: Validation images that are split off the training images, stratified: a share in [0, 1) or a number of
            images. 0 validates on nothing. It is ignored where the source has validation images of its own.
        normalize: ``imagenet`` (mean and std of the reference notebook), ``auto`` (the exact statistics of the training
            images), or a mean and std a channel.
        augment: Random changes of the training images, in this order; none by default.
        views: Number of fixed augmented views of each image, the same in all runs; every epoch draws a new view where
            it is not given. With K views, teacher outputs can be cached: the teacher runs K times on each image before
            training starts, and the cache is K times as large (50,000 images in 16 views: 32 MB of logits for ten
            classes). As many views as epochs cost no accuracy, because no view is seen twice; fewer may: on CIFAR-10,
            16 views cost 0.4 points in 60 epochs, and a single one 3 points in 10.
        split_seed: Seed of the split of validation images.
        shuffle_seed: Seed of the order of the training images and of their random changes; the trainer's
            ``seed_everything`` where it is not given.
        eval_batch_size: Images a batch in validation and test; as many as have a million pixels where it is not given,
            on a GPU two and a half million.
        drop_last: Whether the last training batch of an epoch is dropped where it has fewer images than the others;
            every epoch drops other images.
        labelled_share: Share of each training batch that is labelled, in (0, 1), where other training images have no
            label; an eighth where it is not given. An epoch is then one pass over the labelled or the unlabelled
            images, whichever takes more batches; the others are passed over several times.
    """

    hub_name: str = ""
    """Name of the data set on the Hugging Face hub, for model cards; empty where it is not there."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Show also the options that the bases have."""
        super().__init_subclass__(**options)
        show_options(cls)

    def __init__(
        self,
        batch_size: int = 128,
        val_size: float = 0.1,
        normalize: Literal["imagenet", "auto"] | Normalization = "imagenet",
        augment: Sequence[Augmentation] = (),
        views: int | None = None,
        split_seed: int = 0,
        shuffle_seed: int | None = None,
        eval_batch_size: int | None = None,
        drop_last: bool = False,
        labelled_share: float | None = None,
    ) -> None:
        LightningDataModule.__init__(self)
        ImageSource.__init__(self, val_size, normalize, split_seed)
        for name, size in (("batch_size", batch_size), ("eval_batch_size", eval_batch_size), ("views", views)):
            if size is not None and size < 1:
                raise UserError(f"{name} is {size}, but it must be 1 or more; set --data.{name}.")
        if val_size < 0:
            raise UserError(
                f"val_size {val_size} must be a share in [0, 1) or a number of images; set --data.val_size."
            )
        check_share(labelled_share)
        self.labelled_share = labelled_share
        self.batch_size = batch_size
        self.augment = list(augment)
        self.views = views
        self.name: str = type(self).__name__.removesuffix("DataModule")  # shown to users
        self.seed = torch.initial_seed() % 2**31 if shuffle_seed is None else shuffle_seed
        self.eval_batch_size = eval_batch_size
        self.drop_last = drop_last
        self._epoch: Tensor | None = None

    @cached_property
    def pipeline(self) -> Pipeline:
        """The augmentations of the training images."""
        return Pipeline(self.augment, self.num_classes)

    @cached_property
    def seen_views(self) -> Views:
        """The views that the training images are seen in."""
        return Views(self.pipeline, self.views)

    @property
    def augmentation_epoch(self) -> int | Tensor:
        """The epoch of the augmentations' draws, which includes the run's seed."""
        if self._epoch is not None:
            return self._epoch
        return (self.trainer.current_epoch if self.trainer is not None else 0) + (self.seed << 32)

    @contextmanager
    def epoch_from(self, epoch: Tensor) -> Iterator[None]:
        """Let the draws read their epoch from memory, a 0-d int64 tensor on the device, as a CUDA graph does."""
        self._epoch = epoch
        try:
            yield
        finally:
            self._epoch = None

    def setup(self, stage: str) -> None:
        """Load what the stage needs, before anything runs."""
        check_class_names(self.class_names)
        if stage == "test":
            self.split("test")
        else:
            _ = self.split_rows
        _ = self.normalization

    def train_dataloader(self) -> BatchLoader:
        """Serve the training images, shuffled."""
        data, rows = self.train_rows()
        fixed = self.trainer is not None and self.trainer.overfit_batches > 0  # type: ignore[attr-defined]
        options: dict[str, Any] = {"seed": self.seed, "fixed": fixed, **self._shares("training", rows)}
        if self.num_unlabelled:
            labels = data.labels[rows]
            counts = batch_counts(labels, self.batch_size, self.labelled_share)
            mixed = MixedSampler(rows, labels=labels, counts=counts, **options)
            return MixedLoader(resident(data, self._device), mixed)
        sampler = RowSampler(rows, shuffle=True, **options)
        return BatchLoader(resident(data, self._device), sampler, self.batch_size, self.drop_last)

    def val_dataloader(self) -> BatchLoader | list[BatchLoader]:
        """Serve the validation images in order; nothing where there are none."""
        if not self.has_val:
            return []
        return self._eval_loader("validation", *self.val_rows())

    def test_dataloader(self) -> BatchLoader:
        """Serve the test images in order."""
        return self._eval_loader("test", *self.test_rows())

    def _eval_loader(self, kind: str, data: LabelledImages, rows: Tensor) -> BatchLoader:
        sampler = RowSampler(rows, shuffle=False, **self._shares(kind, rows))
        return BatchLoader(resident(data, self._device), sampler, self._eval_batch_size())

    def _shares(self, kind: str, rows: Tensor) -> dict[str, Any]:
        """Share rows among the processes; one without rows would never join their synchronization."""
        if not len(rows):
            raise UserError(f"there is no {kind} image; give --data some.")
        if self.trainer is None:
            return {}
        rank, world_size = self.trainer.global_rank, self.trainer.world_size
        if len(rows) < world_size:
            raise UserError(
                f"{world_size} processes cannot share {counted(len(rows), f'{kind} image')}; "
                "set --trainer.devices to a smaller number, or give more images."
            )
        return {"rank": rank, "world_size": world_size}

    @property
    def _device(self) -> torch.device:
        return torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device

    def _eval_batch_size(self) -> int:
        if self.eval_batch_size is not None:
            return self.eval_batch_size
        return max(1, EVAL_PIXELS.get(self._device.type, EVAL_PIXELS["cpu"]) // self.image_size**2)

    def on_after_batch_transfer(self, batch: RawBatch, dataloader_idx: int) -> Batch:
        """Turn raw pixels (B, H, W, C) into the network's normalized images (B, C, H, W), augmented while training."""
        images, labels, rows = batch.images.permute(0, 3, 1, 2), batch.labels, batch.rows
        views = None
        if self.trainer is not None and self.trainer.training:
            epoch = self.augmentation_epoch if batch.epochs is None else batch.epochs + (self.seed << 32)
            drawn = self.seen_views.drawn(rows, epoch)
            images, labels = self.pipeline(images, labels, rows, epoch, drawn)
            views = self.seen_views.numbers(rows, drawn)
        elif self.trainer is not None and self.trainer.validating and self.validates_on_training_set:
            plain = self.seen_views.plain
            views = None if plain is None else torch.full_like(rows, plain)
        result = Batch(self.normalization.apply(images), labels, rows, views)
        return result if self.trainer is None else self.trainer.precision_plugin.convert_input(result)
