"""Whole batches of rows: the replacement of a DataLoader for a data set that is one tensor."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kd_lightning.errors import UserError


class LabelledImages(NamedTuple):
    """A set of images as tensors.

    Attributes:
        images: Pixels, ``(N, H, W, C)``, uint8.
        labels: Class indices, ``(N,)``, int64.
    """

    images: Tensor
    labels: Tensor


class RawBatch(NamedTuple):
    """A batch as the loader serves it.

    Attributes:
        images: Raw pixels ``(B, H, W, C)``, uint8.
        labels: Class indices ``(B,)``, int64; of the first images alone where the others have none.
        rows: Row numbers of the images in their data set, ``(B,)``, int64.
        epochs: The epoch of each image's augmentation, ``(B,)``, int64, where images of a batch differ in it.
    """

    images: Tensor
    labels: Tensor
    rows: Tensor
    epochs: Tensor | None = None

    def to(self, device: torch.device, non_blocking: bool = False) -> "RawBatch":
        """Return the batch on a device."""
        parts = (None if part is None else part.to(device, non_blocking=non_blocking) for part in self)
        return RawBatch(*parts)  # type: ignore[arg-type]


class Batch(NamedTuple):
    """A batch as a task's step takes it: augmented and normalized on the device.

    Attributes:
        images: Normalized images ``(B, C, H, W)``, float, in channels-last memory.
        labels: Class indices ``(B,)``, int64, or class probabilities ``(B, num_classes)`` where labels are mixed. Where
            a batch has unlabelled images they follow the labelled ones, and only these have labels, ``(L,)``.
        rows: Row numbers of the images in their data set, ``(B,)``, int64.
        views: Number of each image's view, ``(B,)``, int64, where the views of the training images can be counted and
            the images are training images.
    """

    images: Tensor
    labels: Tensor
    rows: Tensor
    views: Tensor | None = None


def resident(data: LabelledImages, device: torch.device) -> LabelledImages:
    """Move a set to the GPU where it takes less than half of what is free there."""
    if device.type != "cuda" or data.images.nbytes > torch.cuda.mem_get_info(device)[0] // 2:
        return data
    return LabelledImages(data.images.to(device), data.labels.to(device))


class RowSampler:
    """Orders the rows of a split, with a new order every epoch if they are shuffled.

    The order depends only on the seed and the epoch, so a resumed run sees the same batches as an uninterrupted one.

    Args:
        rows: Row numbers of the split, ``(N,)``, int64.
        shuffle: Whether the order changes with the epoch.
        seed: Seed of the orders.
        rank: This process among ``world_size``; each takes its own part of the rows.
        world_size: Number of processes. Shuffled rows are repeated until all processes have equally many.
        fixed: Whether shuffled rows keep the order of the first epoch.
    """

    def __init__(
        self,
        rows: Tensor,
        *,
        shuffle: bool,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        fixed: bool = False,
    ) -> None:
        self.rows = rows
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.fixed = fixed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the order; Lightning calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        padded = len(self.rows) + (-len(self.rows) % self.world_size if self.shuffle else 0)
        return len(range(self.rank, padded, self.world_size))

    def ordered(self) -> Tensor:
        """Return this process's rows in the order of the epoch, ``(len(self),)``."""
        if not self.shuffle:
            return self.rows[self.rank :: self.world_size]
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, 0 if self.fixed else self.epoch))
        shuffled = self.rows[torch.randperm(len(self.rows), generator=generator)]
        missing = -len(shuffled) % self.world_size
        return torch.cat([shuffled, shuffled[:missing]])[self.rank :: self.world_size]


def mixed_seed(seed: int, epoch: int) -> int:
    """Give every pair of seed and epoch a generator seed of its own."""
    return (seed * 0x9E3779B97F4A7C15 + epoch * 0xBF58476D1CE4E5B9 + 1) % 2**63


class BatchLoader:
    """Serves batches of rows of one tensor; no work is done per image.

    It can be saved and resumed in the middle of an epoch (Lightning stores its ``state_dict`` in checkpoints).

    Args:
        data: The whole set, in memory, in a memory map or on the device.
        sampler: The rows to serve and their order.
        batch_size: Rows a batch; the last one may have fewer.
        drop_last: Whether a last batch with fewer rows is dropped.

    Attributes:
        train_ahead: Called before a batch is served, with the epoch's remaining batches (rows, ``(B,)`` each, on the
            data's device). It trains on the first of them and returns on how many; never on all.
        read_ahead: Requests a batch's rows from the disk, where the images are a memory map of a file.
    """

    batch_sampler = None  # Lightning looks for one beside a sampler, as in a DataLoader

    def __init__(self, data: LabelledImages, sampler: RowSampler, batch_size: int, drop_last: bool = False) -> None:
        self.data = data
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last
        if not len(self):
            raise UserError(
                f"drop_last leaves nothing of {len(sampler)} images in batches of {batch_size}; "
                "set --data.drop_last false or a smaller --data.batch_size."
            )
        self.train_ahead: Callable[[Sequence[Tensor]], int] | None = None
        self.read_ahead: Callable[[Tensor], None] | None = None
        self._served = 0
        self._resume = {"epoch": -1}

    def __len__(self) -> int:
        whole, rest = divmod(len(self.sampler), self.batch_size)
        return whole if self.drop_last or not rest else whole + 1

    def images_in(self, batches: int) -> int:
        """Return how many images the first batches of an epoch hold, in all processes together."""
        return min(batches * self.batch_size * self.sampler.world_size, len(self.sampler.rows))

    def __iter__(self) -> Iterator[RawBatch]:
        batches = self.sampler.ordered().to(self.data.labels.device).split(self.batch_size)[: len(self)]
        self._served = self._first()
        while self._served < len(batches):
            if self.train_ahead is not None:
                self._served += self.train_ahead(batches[self._served :])
            rows = batches[self._served]
            self._served += 1
            yield self.gather(rows)

    def _first(self) -> int:
        """Return how many batches of the epoch a resumed run served before it stopped."""
        if self._resume["epoch"] != self.sampler.epoch:
            return 0
        for name, value in self._order().items():
            if self._resume.get(name) != value:
                raise UserError(
                    f"the checkpoint is from the middle of an epoch, in which {name} was {self._resume.get(name)}; "
                    f"now it is {value}, so the images that are left are unknown; resume with the same, or from a "
                    "checkpoint of an epoch's end."
                )
        return self._resume["batches"]

    def _order(self) -> dict[str, int]:
        """Return what determines the rows in an epoch's batches."""
        sampler = self.sampler
        sizes = {"batch_size": self.batch_size, "the number of training images": len(sampler.rows)}
        return {**sizes, "the number of processes": sampler.world_size, "the seed of their order": sampler.seed}

    def gather(self, rows: Tensor) -> RawBatch:
        """Return the raw images and the labels of these rows, which are on the data's device."""
        if self.read_ahead is not None:
            self.read_ahead(rows)
        return RawBatch(self.data.images.index_select(0, rows), self.data.labels.index_select(0, rows), rows)

    def state_dict(self) -> dict[str, int]:
        """Return the epoch and the number of batches served in it."""
        return {"epoch": self.sampler.epoch, "batches": self._served, **self._order()}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue after the batches that were served in the state's epoch."""
        self._resume = dict(state)
