"""Batches of labelled and of unlabelled images: a fixed number of each, the labelled ones first."""

from typing import Any

import torch
from torch import Tensor

from kd_lightning.data.loader import BatchLoader, LabelledImages, RawBatch, RowSampler, mixed_seed
from kd_lightning.errors import UserError

UNLABELLED = -1
"""The label of a training image without one."""

PASS = 2**32
"""Factor of the pass in a number that holds it and a row."""

DEFAULT_SHARE = 0.125
"""Share of a batch that is labelled; FixMatch (2020, https://arxiv.org/abs/2001.07685) trains on seven unlabelled
images for each labelled one."""


def batch_counts(labels: Tensor, batch_size: int, share: float | None) -> tuple[int, int]:
    """Return how many labelled and how many unlabelled images a batch has.

    Args:
        labels: Those of all training images, (N,); some are ``UNLABELLED``.
        batch_size: Images of a batch, 1 or more.
        share: Share of a batch that is labelled; ``DEFAULT_SHARE`` where it is not given.

    Raises:
        UserError: A batch has no room for both.
    """
    if bool((labels == UNLABELLED).all()):
        return 0, batch_size
    if batch_size == 1:
        raise UserError("batch_size is 1, which has no room for a labelled and an unlabelled image; set it to 8 or so.")
    labelled = round(batch_size * (DEFAULT_SHARE if share is None else share))
    labelled = min(max(labelled, 1), batch_size - 1)
    return labelled, batch_size - labelled


def check_share(share: float | None) -> None:
    """Raise ``UserError`` for a share of labelled images that is out of range."""
    if share is not None and not 0 < share < 1:
        raise UserError(
            f"labelled_share {share} must be above 0 and below 1: the share of labelled images in each batch beside "
            f"unlabelled ones; set --data.labelled_share, such as {DEFAULT_SHARE}."
        )


class MixedSampler(RowSampler):
    """Order labelled and unlabelled rows so that each batch has fixed numbers of both, the labelled ones first.

    An epoch is one pass over the set that takes more batches. The other set is passed over again and again, and each
    pass has a new order. Passes go on from one epoch to the next, so that all images of a set are seen equally often.

    Args:
        rows: Row numbers of the split, (N,), int64.
        labels: The label of each, (N,); some are ``UNLABELLED``.
        counts: Labelled and unlabelled rows of a batch.
        options: Further arguments of ``RowSampler``.
    """

    def __init__(self, rows: Tensor, labels: Tensor, counts: tuple[int, int], **options: Any) -> None:
        super().__init__(rows, shuffle=True, **options)
        own = (rows[labels != UNLABELLED], rows[labels == UNLABELLED])
        self.parts = [(part, count) for part, count in zip(own, counts, strict=True) if count]
        self.labelled = counts[0]
        self.batches = max(-(-len(rows) // (count * self.world_size)) for rows, count in self.parts)

    def __len__(self) -> int:
        return self.batches * sum(count for _, count in self.parts)

    def ordered(self) -> Tensor:
        """Return this process's rows in the order of the epoch, (len(self),), plus ``PASS`` times their pass.

        So each number has all that a step reads of the sampler, as a captured one does.
        """
        parts = [self._places(rows, count).view(self.batches, count) for rows, count in self.parts]
        return torch.cat(parts, 1).flatten()

    def _places(self, rows: Tensor, count: int) -> Tensor:
        """Return the epoch's part of the sequence of all passes over a set."""
        size = self.batches * count * self.world_size
        start = 0 if self.fixed else self.epoch * size
        first = start // len(rows)
        passes = range(first, (start + size - 1) // len(rows) + 1)
        orders = torch.cat([self._shuffled(rows, number) for number in passes])
        return orders[start - first * len(rows) :][:size][self.rank :: self.world_size]

    def _shuffled(self, rows: Tensor, number: int) -> Tensor:
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, number))
        return rows[torch.randperm(len(rows), generator=generator)] + number * PASS


class MixedLoader(BatchLoader):
    """Serve batches of a ``MixedSampler``: all are of one size, with labels only for their first images."""

    sampler: MixedSampler

    def __init__(self, data: LabelledImages, sampler: MixedSampler) -> None:
        super().__init__(data, sampler, sum(count for _, count in sampler.parts))

    def _order(self) -> dict[str, int]:
        """Return what determines the rows in an epoch's batches."""
        return {**super()._order(), "the number of labelled images in a batch": self.sampler.labelled}

    def gather(self, rows: Tensor) -> RawBatch:
        """Return the raw images (B, H, W, C) and the labels of the labelled ones, (L,)."""
        own, passes = rows % PASS, rows // PASS
        labels = self.data.labels.index_select(0, own[: self.sampler.labelled])
        return RawBatch(self.data.images.index_select(0, own), labels, own, passes)
