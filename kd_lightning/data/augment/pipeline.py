"""The augmentations of the training images, in the order of the config."""

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor

from kd_lightning.data.augment.base import Augmentation
from kd_lightning.data.augment.moves import HorizontalFlip, PixelMove, move_pixels
from kd_lightning.errors import UserError


class Pipeline:
    """Apply augmentations to a batch in their order; consecutive moves cost one gather.

    Args:
        steps: The augmentations; none is allowed.
        num_classes: Number of classes, the width of mixed labels.

    Raises:
        UserError: Two steps of one class have the same seed, so they would draw the same.
    """

    def __init__(self, steps: Sequence[Augmentation], num_classes: int) -> None:
        streams = [(type(step).__name__, step.seed) for step in steps]
        for kind, seed in streams:
            if streams.count((kind, seed)) > 1:
                raise UserError(
                    f"two {kind} in --data.augment have the seed {seed} and would draw the same: change one."
                )
        self.steps = tuple(steps)
        self.num_classes = num_classes

    @property
    def is_random(self) -> bool:
        """Whether an image can come out in more than one way."""
        return bool(self.steps)

    @property
    def flips_only(self) -> bool:
        """Whether every output is the image itself or its mirror image; true for an empty pipeline."""
        return all(step.flips_only for step in self.steps)

    @property
    def mixes_labels(self) -> bool:
        """Whether labels come out as ``(B, K)`` probabilities."""
        return any(step.mixes_labels for step in self.steps)

    def flipped(self, rows: Tensor, epoch: int | Tensor) -> Tensor:
        """Return which images come out mirrored, ``(B,)`` bool, counting flips only."""
        result = torch.zeros_like(rows, dtype=torch.bool)
        for step in self.steps:
            if isinstance(step, HorizontalFlip):
                result = result ^ step.draw(rows, epoch)
        return result

    def __call__(
        self, images: Tensor, labels: Tensor, rows: Tensor, epoch: int | Tensor, drawn: int | Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the augmented images, uint8 or float32 in [0, 255], and their labels.

        Args:
            images: ``(B, C, H, W)`` in channels_last memory, uint8 or float32, values in [0, 255].
            labels: ``(B,)`` int64, or ``(B, K)`` float32 probabilities.
            rows: ``(B,)`` int64: the images' row numbers in the data set.
            epoch: The epoch, 0 or more, or a 0-d int64 tensor of it on the images' device.
            drawn: A number an image, ``(B,)`` int64, in place of the epoch in the draws of steps that mix no images.
        """
        own = epoch if drawn is None else drawn
        if self.mixes_labels and labels.ndim == 1:
            labels = (labels.unsqueeze(1) == torch.arange(self.num_classes, device=labels.device)).to(torch.float32)
        for _, group in groupby(self.steps, lambda step: isinstance(step, PixelMove)):
            steps = list(group)
            moves = [step for step in steps if isinstance(step, PixelMove)]
            if moves:
                images = move_pixels(images, moves, rows, own)
            else:
                for step in steps:
                    images, labels = step.apply(images, labels, rows, epoch if step.mixes_labels else own)
        return images, labels
