"""The images and views that a cached teacher runs on, in the order of its tables."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from kd_lightning.data.base import ImageDataModule
from kd_lightning.teacher.targets import Tables

COMPARED = 64
"""Images on which a table of an earlier run is compared with what the teacher computes now."""

IMAGES_AT_ONCE = 256
"""Images in a batch of the teacher: larger batches are not faster on a CPU and take more memory."""


class CachedRows:
    """The rows of tables in their order: all images in one view, then in the next.

    Where random views are counted, a last block holds the images as they are, for those that validate.

    Args:
        data: Serves the images.
        compute: Returns the teacher's targets as rows for raw images (B, C, H, W).
        device: Where the teacher is.
    """

    def __init__(self, data: ImageDataModule, compute: Callable[[Tensor], Tables], device: torch.device) -> None:
        views = data.seen_views
        assert views.count is not None
        self.data = data
        self.compute = compute
        self.device = device
        self.views = views
        self.images = len(data.split("train").labels)
        self.count = views.count + (views.plain == views.count and data.validates_on_training_set)

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
        for rows in torch.arange(self.images).split(IMAGES_AT_ONCE):
            chosen = seen[rows]
            if chosen.all():
                yield self._part(rows, number)
                continue
            found = self._part(rows[chosen] if chosen.any() else rows[:1], number)
            parts = {key: values.new_zeros(len(rows), *values.shape[1:]) for key, values in found.items()}
            for key, values in found.items():
                parts[key][chosen.to(values.device)] = values[: int(chosen.sum())]
            yield parts

    def _part(self, rows: Tensor, number: int) -> Tables:
        images, labels = self.data.split("train")
        chosen, here = images.index_select(0, rows.to(images.device)), rows.to(self.device)
        pixels = chosen.to(self.device).permute(0, 3, 1, 2)  # (B, H, W, C) -> (B, C, H, W)
        of_images = labels.index_select(0, rows.to(labels.device)).to(self.device)
        return self.compute(self.views.show(pixels, of_images, here, number))
