"""The fourteen operations of RandAugment and TrivialAugment, each image of a batch by its own one.

No shape depends on the draws: every image is moved, blended and looked up in a table, by values that change nothing
where its operation is another. Whole numbers and tables from the CPU give the same bits on every device.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from kd_lightning.data.augment.color import grey
from kd_lightning.data.counter_rng import integers

NAMES = (
    *("Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast"),
    *("Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize"),
)
BINS = 31
"""Strengths of each operation."""


class Strengths(NamedTuple):
    """The operations' greatest strengths; the least changes nothing, except that Solarize inverts nothing but white."""

    shear: float
    translate: tuple[float, float]  # pixels of the width and of the height
    rotate: float  # degrees
    change: float  # of brightness, colour, contrast and sharpness
    bits: int  # that Posterize removes


class Operations(NamedTuple):
    """The draws for a batch."""

    kinds: Tensor  # (B,) int64: positions in NAMES
    levels: Tensor  # (B,) int64: twice the bin, and 1 more for the other direction

    @classmethod
    def of(cls, kind: Tensor, strength: Tensor, direction: Tensor) -> "Operations":
        """Make them of uniform draws, (B,) each."""
        return cls(integers(kind, len(NAMES)), 2 * integers(strength, BINS) + integers(direction, 2))


def operate(images: Tensor, operations: Operations, strengths: Strengths) -> Tensor:
    """Return the changed images.

    Args:
        images: (B, C, H, W) uint8, of 1 or 3 channels.
        operations: Each image's operation.
        strengths: The greatest strengths.
    """
    moves, magnitudes = _tables(strengths, (images.shape[2], images.shape[3]), images.device)
    kinds = operations.kinds
    magnitude = magnitudes[kinds, operations.levels]
    images = _move(images, moves[kinds, operations.levels])
    images = _blend(images, kinds, magnitude)
    return _look_up(images, _curves(images, kinds, magnitude)).contiguous(memory_format=torch.channels_last)


@cache
def _tables(strengths: Strengths, size: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the source of each move, (kinds, 2 * BINS, 6), and each magnitude, (kinds, 2 * BINS), float32."""
    with torch.inference_mode(False):
        greatest = {
            **dict.fromkeys(("ShearX", "ShearY"), strengths.shear),
            **dict(zip(("TranslateX", "TranslateY"), strengths.translate, strict=True)),
            "Rotate": strengths.rotate,
            **dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), strengths.change),
        }
        values = torch.zeros(len(NAMES), BINS, 2)
        for name, most in greatest.items():
            steps = torch.linspace(0, most, BINS)
            values[NAMES.index(name)] = torch.stack([steps, -steps], dim=1)
        bits = (8 - torch.arange(BINS) / ((BINS - 1) / strengths.bits)).round()
        values[NAMES.index("Posterize")] = bits.unsqueeze(1)
        values[NAMES.index("Solarize")] = 255 * torch.linspace(1, 0, BINS).unsqueeze(1)
        values = values.flatten(1)
        moves = [
            [_source(name, value, size) for value in row] for name, row in zip(NAMES, values.tolist(), strict=True)
        ]
        return torch.tensor(moves).to(device), values.to(device)


def _source(name: str, value: float, size: tuple[int, int]) -> tuple[float, ...]:
    """Return a, b, c, d, e, f: a pixel (x, y), counted from the centre, comes from (ax + by + c, dx + ey + f)."""
    match name:
        case "ShearX":  # it keeps the upper edge, ShearY the left one
            return 1, value, value * size[0] / 2, 0, 1, 0
        case "ShearY":
            return 1, 0, 0, value, 1, value * size[1] / 2
        case "TranslateX":
            return 1, 0, -int(value), 0, 1, 0
        case "TranslateY":
            return 1, 0, 0, 0, 1, -int(value)
        case "Rotate":
            sine, cosine = math.sin(math.radians(value)), math.cos(math.radians(value))
            return cosine, -sine, 0, sine, cosine, 0
    return 1, 0, 0, 0, 1, 0


def _move(images: Tensor, sources: Tensor) -> Tensor:
    """Fill each pixel from the nearest one of its source, ``sources`` (B, 6); outside of the image is black."""
    height, width = images.shape[2:]
    a, b, c, d, e, f = sources.T.reshape(6, -1, 1, 1, 1)
    x = torch.arange(width, device=images.device) - (width - 1) / 2
    y = torch.arange(height, device=images.device).unsqueeze(1) - (height - 1) / 2
    xs, ys = (a * x + b * y + (c + (width - 1) / 2)).round(), (d * x + e * y + (f + (height - 1) / 2)).round()
    outside = (xs < 0) | (xs >= width) | (ys < 0) | (ys >= height)
    index = (ys * width + xs).to(torch.int64).masked_fill(outside, 0)  # (B, 1, H, W)
    moved = images.flatten(2).gather(2, index.flatten(2).expand(-1, images.shape[1], -1))
    return moved.view(images.shape).masked_fill(outside, 0)


def _blend(images: Tensor, kinds: Tensor, magnitude: Tensor) -> Tensor:
    """Change colour and sharpness: away from the grey or the blurred image, or towards it."""
    pixels = images.to(torch.float32)
    is_color, is_sharpness = (_where(kinds, name) for name in ("Color", "Sharpness"))
    base = torch.where(is_color, grey(pixels).floor(), torch.where(is_sharpness, _blurred(pixels), pixels))
    factor = 1 + magnitude.view(-1, 1, 1, 1)
    return (base + (pixels - base) * factor).clamp_(0, 255).to(torch.uint8)


def _blurred(pixels: Tensor) -> Tensor:
    """Return 5 parts of each pixel and one of each neighbour, rounded; pixels at the border stay."""
    height, width = pixels.shape[2:]
    if min(height, width) <= 2:
        return pixels
    nine = sum(pixels[:, :, y : height - 2 + y, x : width - 2 + x] for y in range(3) for x in range(3))
    inner = ((nine + 4 * pixels[:, :, 1:-1, 1:-1]) / 13).round()
    inside = torch.zeros(height, width, dtype=torch.bool, device=pixels.device)
    inside[1:-1, 1:-1] = True
    return torch.where(inside, functional.pad(inner, (1, 1, 1, 1)), pixels)


def _curves(images: Tensor, kinds: Tensor, magnitude: Tensor) -> Tensor:
    """Return what becomes of each value, (B, C, 256) uint8."""
    values = torch.arange(256, device=images.device, dtype=torch.float32).expand(*images.shape[:2], -1)
    strength = magnitude.view(-1, 1, 1)
    step = 2 ** (8 - strength)
    makers: dict[str, Callable[[], Tensor]] = {
        "Brightness": lambda: values * (1 + strength),
        "Contrast": lambda: values * (1 + strength) - _mean_grey(images) * strength,
        "Posterize": lambda: (values / step).floor() * step,
        "Solarize": lambda: torch.where(values >= strength, 255 - values, values),
        "AutoContrast": lambda: _stretched(images, values),
        "Equalize": lambda: _equalized(images, values),
    }
    curves = values
    for name, make in makers.items():
        curves = torch.where(_where(kinds, name, 3), make(), curves)
    return curves.clamp(0, 255).to(torch.uint8)


def _mean_grey(images: Tensor) -> Tensor:
    """Return the images' mean grey, (B, 1, 1): a sum of whole numbers is the same in any order."""
    whole = grey(images.to(torch.float32)).to(torch.int64)
    return whole.sum(dim=(2, 3)).unsqueeze(2).to(torch.float32) / (images.shape[2] * images.shape[3])


def _stretched(images: Tensor, values: Tensor) -> Tensor:
    """Stretch each channel's values to 0 and 255."""
    lowest, highest = (limit(images, dim=(2, 3)).unsqueeze(2).to(torch.float32) for limit in (torch.amin, torch.amax))
    scale = (highest - lowest) * (1 / 255)
    return torch.where(highest > lowest, (values - lowest) / scale, values)


def _equalized(images: Tensor, values: Tensor) -> Tensor:
    """Make the values of each channel equally frequent, as Pillow does."""
    index = images.flatten(2).to(torch.int64)
    counts = torch.zeros(*images.shape[:2], 256, dtype=torch.int64, device=images.device)
    counts.scatter_add_(2, index, torch.ones_like(index))
    highest = images.amax(dim=(2, 3)).unsqueeze(2).to(torch.int64)
    step = (index.shape[2] - counts.gather(2, highest)) // 255
    below = counts.cumsum(2) - counts
    curve = (below + step // 2) // step.clamp(min=1)
    return torch.where(step > 0, curve.to(torch.float32), values)


def _look_up(images: Tensor, curves: Tensor) -> Tensor:
    return curves.gather(2, images.flatten(2).to(torch.int64)).view(images.shape)


def _where(kinds: Tensor, name: str, ndim: int = 4) -> Tensor:
    """Return which images have this operation, (B, 1, ...)."""
    return (kinds == NAMES.index(name)).view(-1, *[1] * (ndim - 1))
