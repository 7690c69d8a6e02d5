"""Per-channel normalization of whole batches, and the exact statistics that it uses."""

from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import isfinite, sqrt

import torch
from torch import Tensor

from kd_lightning.errors import UserError

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of ImageNet's training images, per channel."""

VALUES_AT_ONCE = 2**24
"""Pixel values read from the set at once while counting: 16 MiB."""


@dataclass(frozen=True)
class Normalization:
    """Mean and standard deviation that normalize each channel of pixels in [0, 1].

    Attributes:
        mean: Mean of each channel, for pixels in [0, 1].
        std: Standard deviation of each channel, for pixels in [0, 1]; above 0.

    Raises:
        UserError: The two differ in length, or a value is out of range.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.mean or len(self.mean) != len(self.std):
            raise UserError(
                f"mean {self.mean} and std {self.std} of a normalization do not fit: give one value a channel in each."
            )
        if not all(map(isfinite, self.mean)) or not all(isfinite(value) and value > 0 for value in self.std):
            raise UserError(f"mean {self.mean} and std {self.std} are not a normalization: each std must be above 0.")

    def apply(self, images: Tensor) -> Tensor:
        """Return ``(images / 255 - mean) / std`` as float32 in channels_last memory.

        Args:
            images: ``(B, C, H, W)``, uint8 or float, values in [0, 255]; fastest in channels_last memory.

        Raises:
            UserError: The images have another number of channels than the normalization.
        """
        batch, channels, height, width = images.shape
        if channels != len(self.mean):
            raise UserError(
                f"images of {channels} channel(s) do not fit a normalization of {len(self.mean)}: "
                "give --data.normalize one mean and std a channel."
            )
        factor, offset = _rows(self, width, images.device)
        rows = images.permute(0, 2, 3, 1).reshape(batch * height, width * channels)
        rows = (
            rows.to(torch.float32, copy=True).mul_(factor).add_(offset)
        )  # in place: memory's pages cost as much as the sums
        return rows.view(batch, height, width, channels).permute(0, 3, 1, 2)


@cache
def _rows(normalization: Normalization, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return factor and offset, ``(W * C,)`` each: whole rows are several times faster than C values at a time."""
    with torch.inference_mode(False):  # they outlive a validation run, and training may need to differentiate
        mean = torch.tensor(normalization.mean, dtype=torch.float64)
        std = torch.tensor(normalization.std, dtype=torch.float64)
        factor, offset = 1 / (255 * std), -mean / std
        return factor.repeat(width).float().to(device), offset.repeat(width).float().to(device)


def channel_statistics(images: Tensor, rows: Tensor | None = None) -> Normalization:
    """Return each channel's exact mean and population standard deviation, in one pass of bounded memory.

    Args:
        images: ``(N, H, W, C)`` uint8, in memory or over a memory map.
        rows: Rows of ``images`` to use, int64; all where it is ``None``.

    Raises:
        UserError: There are no images, or a channel has the same value in every pixel.
    """
    histograms = _histograms(images, rows)
    count = sum(histograms[0])
    if count == 0:
        raise UserError("there are no images to take the mean and standard deviation of: give --data other images.")
    moments = [_moments(histogram, count) for histogram in histograms]
    return Normalization(tuple(mean for mean, _ in moments), tuple(std for _, std in moments))


def _histograms(images: Tensor, rows: Tensor | None) -> list[list[int]]:
    """Count how often each of the 256 values occurs in each channel."""
    channels = images.shape[-1]
    at_once = max(1, VALUES_AT_ONCE // max(1, images[0].numel() if len(images) else 1))
    counts = torch.zeros(channels, 256, dtype=torch.int64, device=images.device)
    chunks = torch.split(images, at_once) if rows is None else (images[part] for part in torch.split(rows, at_once))
    for chunk in chunks:
        for channel in range(channels):
            counts[channel] += torch.bincount(chunk[..., channel].reshape(-1), minlength=256)
    result: list[list[int]] = counts.tolist()
    return result


def _moments(histogram: list[int], count: int) -> tuple[float, float]:
    """Return mean and population standard deviation, of values scaled to [0, 1], from integer sums."""
    total = sum(value * times for value, times in enumerate(histogram))
    squares = sum(value * value * times for value, times in enumerate(histogram))
    variance = Fraction(count * squares - total * total, (255 * count) ** 2)
    return float(Fraction(total, 255 * count)), sqrt(variance)
