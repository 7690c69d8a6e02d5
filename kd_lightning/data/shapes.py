"""Drawn shapes: the built-in images for a first run, made in about a second and without a download.

Everything here is sums, products, quotients, square roots and comparisons of float32, one array operation each, which
IEEE 754 rounds alike everywhere: every machine draws the same bytes (sines and cosines would not do). It is NumPy
on one thread, which stays fast while other programs use the processor.
"""

import math
from collections.abc import Callable, Collection
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from kd_lightning.data.base import ImageDataModule
from kd_lightning.data.loader import LabelledImages
from kd_lightning.data.normalize import Normalization
from kd_lightning.data.source import Split
from kd_lightning.errors import UserError

Array = npt.NDArray[np.floating]
"""float32, unless noted otherwise."""
Pattern = Callable[[Array, Array], Array]
"""Takes x and y, each ``(B, S, S)``; returns a depth of the same shape: positive inside, 0 on the edge."""

DIRECTIONS = 256
ANGLES = [2 * math.pi * step / DIRECTIONS for step in range(DIRECTIONS)]
COSINES, SINES = (
    np.array([round(4096 * function(angle)) / 4096 for angle in ANGLES], dtype=np.float32)  # the same on all machines
    for function in (math.cos, math.sin)
)
TILT = 14  # a shape leans this far at most to either side, in DIRECTIONS
BARS = 3  # plain bars behind the shape
CHUNK = 100  # images drawn at a time: their planes fit into a processor's cache
SEEDS: dict[Split, int] = {"train": 0, "test": 1}


def _circle(x: Array, y: Array) -> Array:
    return 0.86 - np.sqrt(x * x + y * y)


def _square(x: Array, y: Array) -> Array:
    return 0.76 - np.maximum(abs(x), abs(y))


def _triangle(x: Array, y: Array) -> Array:
    return 0.5 - np.maximum(abs(x) * 0.866 - y * 0.5, y)


def _cross(x: Array, y: Array) -> Array:
    x, y = abs(x), abs(y)
    return np.minimum(0.3 - np.minimum(x, y), 0.92 - np.maximum(x, y))


def _star(x: Array, y: Array) -> Array:
    """Reflect the plane into a tenth of a five-pointed star; there its edge is one straight line."""
    x, y = abs(x), -y
    for mirror_x in (0.809, -0.809):
        beyond = 2 * np.maximum(x * mirror_x - y * 0.588, 0)
        x, y = x - beyond * mirror_x, y + beyond * 0.588
    return 0.4 - (abs(x) * 0.916 + y * 0.4)


def _wave(x: Array) -> Array:
    """Return a triangular wave of period 1 and slope 1, from -1/4 to 1/4."""
    phase: Array = x % 1
    return abs(phase - 0.5) - 0.25


def _stripes(x: Array, y: Array) -> Array:
    return _wave(x)


def _dots(x: Array, y: Array) -> Array:
    return _wave(x) + _wave(y) - 0.11


SHAPES: dict[str, Pattern] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "cross": _cross,
    "star": _star,
}
TEXTURES: dict[str, Pattern] = {"striped": _stripes, "dotted": _dots}
SHAPES_CLASSES = tuple(f"{texture} {shape}" for shape in SHAPES for texture in TEXTURES)


def draw_shapes(num_images: int, seed: int, image_size: int = 32) -> LabelledImages:
    """Draw colour images of a textured shape before bars, under noise; the classes take turns, so they are balanced.

    An image depends only on the seed and its row: the same bytes on every machine, for any number of images.

    Args:
        num_images: Number of images, 0 or more.
        seed: 0 or more; the images of two seeds are independent.
        image_size: Height and width in pixels.
    """
    labels = np.arange(num_images, dtype=np.int64) % len(SHAPES_CLASSES)
    images = np.empty((num_images, image_size, image_size, 3), dtype=np.uint8)
    for start in range(0, num_images, CHUNK):
        scenes = _scenes(_Random(seed, start // CHUNK), image_size)[: num_images - start]
        images[start : start + CHUNK] = (np.clip(scenes, 0, 1) * 255 + 0.5).transpose(0, 2, 3, 1)
    return LabelledImages(torch.from_numpy(images), torch.from_numpy(labels))


class _Random:
    """Random numbers for one chunk of images."""

    def __init__(self, seed: int, chunk: int) -> None:
        self.generator = np.random.Generator(np.random.PCG64([seed, chunk]))

    def uniform(self, low: float, high: float, *shape: int) -> Array:
        """Return ``(CHUNK, *shape)`` between the bounds."""
        return self.generator.random((CHUNK, *shape), dtype=np.float32) * (high - low) + low

    def number(self, low: float, high: float) -> Array:
        return self.uniform(low, high, 1, 1)

    def dark(self) -> Array:
        return self.uniform(0.0, 0.5, 3, 1, 1)

    def light(self) -> Array:
        return self.uniform(0.5, 1.0, 3, 1, 1)

    def direction(self, low: int = 0, high: int = DIRECTIONS) -> npt.NDArray[np.int64]:
        return self.generator.integers(low, high, (CHUNK, 1, 1))


def _scenes(random: _Random, size: int) -> Array:
    """Return pictures (CHUNK, 3, S, S), mostly in [0, 1]; lengths are in half images, with 0 in the middle."""
    kinds = np.arange(CHUNK) % len(SHAPES_CLASSES)
    canvas = _ground(random, size)
    for _ in range(BARS):
        canvas = _with_bar(canvas, random)
    radius = random.number(0.625, 0.875)
    room = 1 - radius * 0.85
    x, y = _axis(size) - random.number(-1, 1) * room, _axis(size).T - random.number(-1, 1) * room
    x, y = _turned(x, y, random.direction(-TILT, TILT + 1))
    depth = _by_kind(kinds // len(TEXTURES), SHAPES.values(), x / radius, y / radius) * radius
    canvas = _painted(canvas, _textured(kinds % len(TEXTURES), random, size), depth)
    return canvas + random.uniform(-1, 1, 3, size, size) * random.number(0.1, 0.6)[:, None]


def _ground(random: _Random, size: int) -> Array:
    """Blend one dark colour smoothly into another, in any direction."""
    along, _ = _turned(_axis(size), _axis(size).T, random.direction())
    return _painted(random.dark(), random.dark(), along / size)


def _with_bar(canvas: Array, random: _Random) -> Array:
    axis = _axis(canvas.shape[-1])
    x, y = _turned(axis - random.number(-1, 1), axis.T - random.number(-1, 1), random.direction())
    depth = np.minimum(random.number(0.125, 0.5) - abs(x), random.number(0.05, 0.2) - abs(y))
    return _painted(canvas, random.dark(), depth)


def _textured(kinds: npt.NDArray[np.int64], random: _Random, size: int) -> Array:
    """Cover whole pictures with dark patterns on light colours, in any direction."""
    period = random.number(0.25, 0.4)
    x, y = _turned(_axis(size), _axis(size).T, random.direction())
    x, y = x / period + random.number(0, 1), y / period + random.number(0, 1)
    depth = _by_kind(kinds, TEXTURES.values(), x, y) * period
    return _painted(random.light(), random.dark(), depth)


def _axis(size: int) -> Array:
    """Return the x coordinates of the pixel columns, (1, S), between -1 and 1."""
    return ((np.arange(size, dtype=np.float32) * 2 + 1) / size - 1)[None]


def _turned(x: Array, y: Array, direction: npt.NDArray[np.int64]) -> tuple[Array, Array]:
    """Turn coordinates by directions (B, 1, 1); the results are (B, S, S)."""
    cosine, sine = COSINES[direction], SINES[direction]
    return x * cosine + y * sine, y * cosine - x * sine


def _by_kind(kinds: npt.NDArray[np.int64], patterns: Collection[Pattern], x: Array, y: Array) -> Array:
    """Compute the depth of each image's own pattern; ``kinds`` (B,) are positions in ``patterns``."""
    depth = np.empty_like(x)
    for kind, pattern in enumerate(patterns):
        chosen = kinds == kind
        depth[chosen] = pattern(x[chosen], y[chosen])
    return depth


def _painted(canvas: Array, colour: Array, depth: Array) -> Array:
    """Cover what lies inside; a pixel on the edge is mixed by its share. The result is (B, 3, S, S)."""
    coverage: Array = np.clip(depth * (depth.shape[-1] / 2) + 0.5, 0, 1)[:, None]
    return canvas + (colour - canvas) * coverage


class ShapesDataModule(ImageDataModule):
    """Serve drawn shapes: ten classes of textured shapes in colour, always the same images, made in about a second.

    Args:
        num_train: Training images, validation images included; 10 or more.
        num_test: Test images, 10 or more.
        image_size: Height and width of an image in pixels, 8 or more.
        normalize: ``auto`` (the exact statistics of the training images), ``imagenet``, or a mean and std a channel.
    """

    class_names: tuple[str, ...] = SHAPES_CLASSES
    in_channels = 3
    image_size = 32

    def __init__(
        self,
        num_train: int = 4000,
        num_test: int = 2000,
        image_size: int = 32,
        normalize: Literal["imagenet", "auto"] | Normalization = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(normalize=normalize, **kwargs)
        if num_train < 10 or num_test < 10:
            raise UserError(
                f"{num_train} training and {num_test} test images are too few for ten classes; "
                "set --data.num_train and --data.num_test to 10 or more."
            )
        if image_size < 8:
            raise UserError(f"image_size {image_size} is too small for shapes; set --data.image_size to 8 or more.")
        self.counts: dict[Split, int] = {"train": num_train, "test": num_test}
        self.image_size = image_size

    def load(self, split: Split) -> LabelledImages | None:
        """Draw a split; there is no ``val``."""
        return None if split == "val" else draw_shapes(self.counts[split], SEEDS[split], self.image_size)
