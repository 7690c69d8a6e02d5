"""The images and views that a cached teacher runs on, in the order of its tables."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kd_lightning.data.base import ImageDataModule
from kd_lightning.machine.processes import gathered, process_count, process_rank
from kd_lightning.teacher.targets import Tables, TeacherTargets

COMPARED = 64
"""Images on which a table of an earlier run is compared with what the teacher computes now."""

IMAGES_AT_ONCE = 256
"""Images in a batch of the teacher: larger batches are not faster on a CPU and take more memory."""


class CacheRequest(NamedTuple):
    """All that the cached targets depend on.

    Attributes:
        targets: Runs the teacher, and looks its targets up once they are cached.
        data: Serves the images; it has passed ``check_views``.
        identity: What the targets depend on besides images, views and normalization: names and tensors.
        device: Where training runs.
        convert: What the trainer's precision does to images.
    """

    targets: TeacherTargets
    data: ImageDataModule
    identity: tuple[object, ...]
    device: torch.device
    convert: Callable[[Tensor], Tensor] = lambda images: images


class CachedRows:
    """The rows of tables in their order: all images in one view, then in the next.

    Where random views are counted, a last block holds the images as they are, for those that validate. Of several
    processes each runs the teacher on its share, and all yield all parts.

    Args:
        request: The images, and the teacher that runs on them.
    """

    def __init__(self, request: CacheRequest) -> None:
        self.request = request
        self.data, self.views = request.data, request.data.seen_views
        assert self.views.count is not None
        self.images = len(self.data.split("train").labels)
        self.count = self.views.count + (self.views.plain == self.views.count and self.data.validates_on_training_set)

    @property
    def described(self) -> str:
        """What the tables hold, in words."""
        if not self.views.pipeline.flips_only:
            return f"{self.images:,} images in {self.views.count} views each"
        return f"{self.images:,} images" + (" and their mirror images" if self.count == 2 else "")

    @property
    def compared(self) -> Tensor:
        """Rows whose first view is computed again before saved tables are used."""
        return self._wanted(0)[:COMPARED]

    def first(self) -> Tables:
        """Return the targets of the rows ``compared``."""
        return self._part(self.compared, 0)

    def __len__(self) -> int:
        return self.count * self.images

    def __iter__(self) -> Iterator[Tables]:
        """Yield all rows in parts."""
        for number in range(self.count):
            yield from self._block(number)

    def _wanted(self, number: int) -> Tensor:
        """Return the rows that are seen in a view."""
        if self.views.pipeline.flips_only:
            return torch.arange(self.images)
        return (self.data.val_rows() if number == self.views.plain else self.data.train_rows())[1]

    def _block(self, number: int) -> Iterator[Tables]:
        """Yield the rows of a view; those of images that are never seen in it are zeros."""
        seen = torch.zeros(self.images, dtype=torch.bool).index_fill_(0, self._wanted(number), True)
        parts, processes = torch.arange(self.images).split(IMAGES_AT_ONCE), process_count()
        for start in range(0, len(parts), processes):
            together = parts[start : start + processes]
            rows = together[min(process_rank(), len(together) - 1)]
            chosen = seen[rows]
            found = self._part(rows[chosen] if chosen.any() else rows[:1], number)
            own = {key: _among_zeros(values, chosen) for key, values in found.items()}
            yield from _of_all(own, list(map(len, together)))

    def _part(self, rows: Tensor, number: int) -> Tables:
        targets, data, _, device, convert = self.request
        images, labels = data.split("train")
        chosen, of_images = (values.index_select(0, rows.to(values.device)).to(device) for values in (images, labels))
        pixels = chosen.permute(0, 3, 1, 2)  # (B, H, W, C) -> (B, C, H, W)
        shown = self.views.show(pixels, of_images, rows.to(device), number)
        found = targets.distinct(convert(data.normalization.apply(shown)))
        return {key: target.permute(0, 2, 3, 1) if target.ndim == 4 else target for key, target in found.items()}


def _of_all(own: Tables, sizes: Sequence[int]) -> Iterator[Tables]:
    """Yield a part of each process, of the first ones where there are fewer parts; ``sizes`` are their rows."""
    if process_count() == 1:
        yield own
        return
    parts = {key: gathered(_padded(values)).split(IMAGES_AT_ONCE) for key, values in own.items()}
    for place, size in enumerate(sizes):
        yield {key: values[place][:size] for key, values in parts.items()}


def _padded(values: Tensor) -> Tensor:
    """Return rows with zeros after them, (IMAGES_AT_ONCE, ...): processes exchange equally many."""
    return torch.cat([values, values.new_zeros(IMAGES_AT_ONCE - len(values), *values.shape[1:])])


def _among_zeros(values: Tensor, chosen: Tensor) -> Tensor:
    """Return rows of zeros with the values where they are chosen."""
    rows = values.new_zeros(len(chosen), *values.shape[1:])
    rows[chosen.to(values.device)] = values[: int(chosen.sum())]
    return rows
