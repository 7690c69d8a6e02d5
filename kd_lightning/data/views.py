"""The augmented views of an image, where they can be counted.

An augmentation whose draws depend on the epoch shows a new view every time. With a fixed number of views the draws
depend on the view's number in place of the epoch: a frozen teacher's outputs for a view are then the same in every
epoch, and its outputs for all views can be computed once.
"""

import torch
from torch import Tensor

from kd_lightning.data import counter_rng
from kd_lightning.data.augment import Pipeline
from kd_lightning.data.counter_rng import EPOCHS


class Views:
    """Counts the views of an image and chooses one for each image of a batch.

    Args:
        pipeline: The augmentations of the training images.
        count: Views of an image; ``None`` draws a new one in every epoch.

    Attributes:
        count: Views of a training image: one without augmentation, two where images are only flipped, ``count`` where
            that is given; ``None`` where they cannot be counted.
        reason: Why they cannot be counted, as a clause.
    """

    def __init__(self, pipeline: Pipeline, count: int | None) -> None:
        self.pipeline = pipeline
        self.limit = count
        mixing = [type(step).__name__ for step in pipeline.steps if step.mixes_labels]
        moving = [type(step).__name__ for step in pipeline.steps if not step.flips_only]
        self.reason: str | None = None
        self.count: int | None = None
        if mixing:
            self.reason = f"{', '.join(mixing)} in --data.augment mixes images of a batch"
        elif pipeline.flips_only:
            self.count = 2 if pipeline.is_random else 1
        elif count is None:
            self.reason = f"{', '.join(moving)} in --data.augment shows it a new view of an image every time"
        else:
            self.count = count

    @property
    def plain(self) -> int | None:
        """The number of the unaugmented view, as in validation; ``None`` where they cannot be counted."""
        return 0 if self.pipeline.flips_only else self.count

    def drawn(self, rows: Tensor, epoch: int | Tensor) -> int | Tensor:
        """Return the number that the augmentations' draws depend on: the epoch, or each image's view, (B,) int64.

        Every run of ``count`` epochs shows each view of an image once, in a cycle with a random start.

        Args:
            rows: Row numbers of the images, (B,) int64.
            epoch: The epoch, with the run's seed times ``EPOCHS`` added.
        """
        if self.limit is None:
            return epoch
        cycle = (epoch % EPOCHS) // self.limit
        seed = epoch - epoch % EPOCHS
        first = counter_rng.bits(rows, seed + cycle, 0, 1, "views").squeeze(1)
        return (first % self.limit + epoch % self.limit) % self.limit

    def numbers(self, rows: Tensor, drawn: int | Tensor) -> Tensor | None:
        """Return the number of each image's view, (B,) int64 below ``count``; ``None`` where they cannot be counted."""
        if self.count is None:
            return None
        if self.pipeline.flips_only:
            return self.pipeline.flipped(rows, drawn).to(torch.int64)
        assert isinstance(drawn, Tensor)
        return drawn

    def show(self, images: Tensor, labels: Tensor, rows: Tensor, number: int) -> Tensor:
        """Return a view of images (B, C, H, W); ``labels`` and ``rows`` are theirs, (B,) each."""
        if self.pipeline.flips_only and number:
            return images.flip(3)
        if number == self.plain:
            return images
        return self.pipeline(images, labels, rows, torch.full_like(rows, number))[0]
