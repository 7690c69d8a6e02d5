"""A frozen teacher's targets, computed once where the view of an image is always the same."""

from collections.abc import Callable, Iterator
from time import monotonic

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from kd_lightning.data.augment import HorizontalFlip
from kd_lightning.data.base import ImageDataModule
from kd_lightning.data.loader import Batch
from kd_lightning.errors import UserError
from kd_lightning.normalize import Normalization
from kd_lightning.remembered_store import ROWS_AT_ONCE, Place, TableFile, choose_place, digest

COMPARED = 64
"""Images on which a table of an earlier run is compared with the teacher as its code is now."""

IMAGES_AT_ONCE = 256
"""Images that the teacher sees at once: more are no faster on a CPU and take their share of memory."""

KEPT_FROM = 10.0
"""Seconds from which computing a table is worth keeping it for later runs."""

Answer = Callable[[Tensor], Tensor]
"""Gives the teacher's targets (B, ...) for normalized images (B, C, H, W)."""


class CannotRememberError(Exception):
    """The teacher has to run in every step; the message says why, as the end of a sentence."""


class RememberedTeacher:
    """The teacher's targets for every image of the set that is trained on.

    Args:
        data: Serves the images.
        table: A row an image, (N, ...), or with flips (2 * N, ...): the images first, then their mirror images. Feature
            maps lie as (N, H, W, C), in the memory order that convolutions are fast with.
    """

    def __init__(self, data: ImageDataModule, table: Tensor) -> None:
        self.data = data
        self.table = table
        self.count = len(data.split("train").labels)
        self._knows_val = data.has_val and data.val_rows()[0] is data.train_rows()[0]

    def look_up(self, batch: Batch) -> Tensor | None:
        """Return the targets (B, ...) for the views in a batch; ``None`` where its images are not those of training."""
        trainer, rows = self.data.trainer, batch.rows
        assert trainer is not None
        if not trainer.training and not (trainer.validating and self._knows_val):
            return None
        if trainer.training and len(self.table) > self.count:
            rows = rows + self.count * self.data.pipeline.flipped(rows, self.data.augmentation_epoch)
        target = self.table.index_select(0, rows.to(self.table.device)).to(batch.images.device, non_blocking=True)
        return target.permute(0, 3, 1, 2) if target.ndim == 4 else target


def check_views(data: ImageDataModule) -> None:
    """Raise ``CannotRememberError`` if an image is seen in more ways than as it is and mirrored."""
    others = [type(step).__name__ for step in data.pipeline.steps if not isinstance(step, HorizontalFlip)]
    if others:
        raise CannotRememberError(f"{', '.join(others)} in --data.augment shows it a new view of an image every time")
    if type(data).on_after_batch_transfer is not ImageDataModule.on_after_batch_transfer:
        raise CannotRememberError(f"{type(data).__name__} changes batches in an on_after_batch_transfer of its own")


@torch.no_grad()
def remember(
    data: ImageDataModule,
    answer: Answer,
    identity: tuple[object, ...],
    device: torch.device,
    processes: int = 1,
    say: Callable[[str], None] = print,
) -> RememberedTeacher:
    """Compute the teacher's targets in one pass, or take those of an earlier run with the same teacher and images.

    Args:
        data: Serves the images; ``check_views`` has let it pass.
        answer: Asks the teacher.
        identity: All that the answers depend on besides the images and their normalization: names and tensors.
        device: Where training runs.
        processes: Processes that train on this machine; each remembers for itself.
        say: Prints a line.

    Raises:
        CannotRememberError: There is no room for the targets.
    """
    images, views = data.split("train").images, 2 if data.pipeline.steps else 1
    first = next(_targets(images[:COMPARED], data.normalization, answer, device))
    shape = (views * len(images), *first.shape[1:])
    size = shape[0] * first[0].numel() * first.dtype.itemsize
    place = choose_place(size, device, processes)
    if place is None:
        raise CannotRememberError(f"its targets take {size / 1e9:.1f} GB, more than memory and disk have to spare")
    key = digest(*identity, data.normalization, shape, first.dtype, images)
    file = TableFile(digest(identity[0], data.name, shape), key, shape, first.dtype)
    table = file.read()
    known = table is not None and _agree(table[: len(first)].to(device), first)
    cost = f"{len(images):,} images{' and their mirror images' if views == 2 else ''}, {_megabytes(size)} {place.value}"
    since = f"since an earlier run, in {file.path}" if known else "it runs once and not in every step"
    say(f"Teacher: remembered for {cost}; {since}.")
    if table is None or not known:
        table = _computed(_targets(images, data.normalization, answer, device, views), file, place, device)
    return RememberedTeacher(data, table if place is Place.DISK else table.to(_home(place, device), copy=known))


def _targets(
    pixels: Tensor, normalization: Normalization, answer: Answer, device: torch.device, views: int = 1
) -> Iterator[Tensor]:
    """Give the table's rows in their order, some at a time."""
    for mirrored in range(views):
        for part in pixels.split(IMAGES_AT_ONCE):  # (B, H, W, C)
            images = part.to(device).permute(0, 3, 1, 2)
            target = answer(normalization.apply(images.flip(3) if mirrored else images))
            yield target.permute(0, 2, 3, 1) if target.ndim == 4 else target


def _computed(parts: Iterator[Tensor], file: TableFile, place: Place, device: torch.device) -> Tensor:
    """Let the teacher run; keep what took long for later runs, and what memory has no room for."""
    if place is Place.DISK:
        return _written(parts, file)
    table = torch.empty(file.shape, dtype=file.dtype, device=_home(place, device))
    started, end = monotonic(), 0
    for part in parts:
        table[end : end + len(part)] = part
        end += len(part)
    if monotonic() - started > KEPT_FROM:
        try:
            file.write(table.split(ROWS_AT_ONCE))
        except UserError as error:
            rank_zero_warn(f"the teacher's targets are not kept for later runs: {error}")
    return table


def _written(parts: Iterator[Tensor], file: TableFile) -> Tensor:
    """Write a table part by part, and return it over a memory map."""
    try:
        file.write(parts)
    except UserError as error:
        raise CannotRememberError(f"its targets are too many for memory and the disk is no help: {error}") from error
    table = file.read()
    if table is None:
        raise CannotRememberError("another run with another teacher or other images takes its place in the cache")
    return table


def _home(place: Place, device: torch.device) -> torch.device:
    return device if place is Place.DEVICE else torch.device("cpu")


def _agree(kept: Tensor, now: Tensor) -> bool:
    """Say whether a kept table is that of the teacher as its code is now, but for rounding."""
    return bool((kept.float() - now.float()).norm() <= 1e-3 * now.float().norm())


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
