"""The base class of all augmentations."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor

from kd_lightning.data import counter_rng
from kd_lightning.errors import UserError


class Augmentation(ABC):
    """A random change of a batch in which every image has its own draw.

    A draw depends only on the seed, the epoch, the image's row in the data set and the class's name. So a batch comes
    out the same on any device (up to float32's rounding of colours), and teacher and student see the same view.

    Your own augmentation subclasses this, implements ``apply`` with draws from ``uniform``, and is given by its
    ``class_path``. On a GPU its steps are captured in a CUDA graph if the class sets ``works_with_fast_path = True``.
    Then it reads nothing from Python that changes between steps, and its epoch is a tensor.

    Attributes:
        seed: Any integer; another seed gives the same images other draws.
        flips_only: Whether every output is the image itself or its mirror image.
        mixes_labels: Whether ``apply`` takes and returns labels as ``(B, K)`` probabilities.
    """

    seed: int
    flips_only: ClassVar[bool] = False
    mixes_labels: ClassVar[bool] = False

    @abstractmethod
    def apply(self, images: Tensor, labels: Tensor, rows: Tensor, epoch: int | Tensor) -> tuple[Tensor, Tensor]:
        """Return the changed images and labels; change no argument in place.

        Args:
            images: ``(B, C, H, W)`` in channels_last memory, uint8 or float32, values in [0, 255].
            labels: ``(B,)`` int64, or ``(B, K)`` float32 probabilities.
            rows: ``(B,)`` int64: the images' row numbers in the data set.
            epoch: The epoch, 0 or more, or a 0-d int64 tensor of it on the images' device.
        """

    def uniform(self, rows: Tensor, epoch: int | Tensor, count: int) -> Tensor:
        """Return ``(count, B)`` draws, float32, uniform in [0, 1)."""
        return counter_rng.uniform(rows, epoch, self.seed, count, type(self).__name__).T

    def require(self, valid: bool, name: str, expected: str) -> None:
        """Raise a ``UserError`` that names the argument ``name`` and what is ``expected``, unless it is ``valid``."""
        if not valid:
            kind = type(self).__name__
            raise UserError(f"{name} of {kind} is {getattr(self, name)}: give {expected} in --data.augment.")
