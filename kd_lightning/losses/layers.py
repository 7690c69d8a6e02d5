"""Shared code of the losses between layers: their shapes, and what of them is compared."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from functools import reduce
from math import ceil
from operator import add
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from kd_lightning.data.loader import Batch
from kd_lightning.errors import UserError
from kd_lightning.losses.base import Loss, Targets, require_teacher, to_float32
from kd_lightning.losses.projectors import Projection, projector, shape_text
from kd_lightning.networks.layers import Outputs, Shapes

Shape = tuple[int, ...]
Size = tuple[int, int] | None

MAX_IMAGES = 128
"""Images whose vectors are compared at once in evaluation: as many as a training batch has by default."""


class LayerLoss(Loss):
    """A loss between layers of the student and as many of the teacher, summed over the pairs.

    A loss of your own subclasses this, sets ``want`` where it does not compare maps, and implements ``compare``.

    Args:
        student: The student's layer or layers, such as ``features`` or ``layer2.0.conv1``.
        teacher: The teacher's layer or layers, in the same order; by default the student's names.

    Raises:
        UserError: The numbers of layers differ, or are 0.

    Attributes:
        want: What ``compare`` gets of each layer: ``map``, (B, C, H, W), of equal height and width in student and
            teacher; ``pooled``, where the larger map is averaged down to the smaller one and a vector is a 1x1 map;
            or ``vector``, all values of an image in one row, (B, D), in float32. Vectors of larger batches are compared
            in parts of up to ``MAX_IMAGES`` in evaluation, for losses on relations between the images of a batch.
        projection: The projector that brings the student's map to the teacher's channels; ``None`` for no projector.
        sizes: Height and width to which each pair is averaged down; ``None`` where it is not.
        keys: The key of each pair's teacher target.
    """

    want: ClassVar[Literal["map", "pooled", "vector"]] = "map"
    projection: Projection | None = None

    def __init__(
        self,
        student: str | list[str],
        teacher: str | list[str] | None = None,
        weight: float = 1.0,
        warm_up: int = 0,
    ) -> None:
        super().__init__(weight, warm_up)
        self.student_layers, self.teacher_layers = _names(student), _names(student if teacher is None else teacher)
        if len(self.student_layers) != len(self.teacher_layers) or not self.student_layers:
            raise UserError(
                f"{type(self).__name__} compares pairs of layers, but student names {len(self.student_layers)} and "
                f"teacher {len(self.teacher_layers)}; name as many in each."
            )

    def build(self, student: Shapes, teacher: Shapes | None) -> None:
        """Check the layers' shapes, and create what is trained between them."""
        teacher = require_teacher(self, teacher)
        names = list(zip(self.student_layers, self.teacher_layers, strict=True))
        pairs = [(self._checked(own, student[own]), self._checked(other, teacher[other])) for own, other in names]
        self.sizes = [self.size(*pair) for pair in pairs]
        self.keys = [
            self.key(name, size, teacher[name]) for name, size in zip(self.teacher_layers, self.sizes, strict=True)
        ]
        self.connect(pairs)

    def _checked(self, layer: str, shape: Shape) -> Shape:
        """Return the shape of a layer's output, that of a vector as (C, 1, 1) where it is to be a map.

        Raises:
            UserError: It is not what the loss wants.
        """
        if self.want == "vector" or len(shape) == 3:
            return shape
        if self.want == "pooled" and len(shape) == 1:
            return (*shape, 1, 1)
        wanted, fix = "maps of channels, height and width", "a convolution, a block or a stage"
        if self.want == "pooled":
            wanted, fix = f"vectors, or {wanted}", "another layer"
        raise UserError(f"{type(self).__name__} needs {wanted}, but '{layer}' gives {shape_text(shape)}; name {fix}.")

    def size(self, student: Shape, teacher: Shape) -> Size:
        """Return the height and width to which a pair is averaged down; ``None`` where it is compared as it is."""
        return smaller_size(student, teacher) if self.want == "pooled" else None

    def key(self, layer: str, size: Size, shape: Shape) -> str:
        """Return the key of a teacher's layer of some shape in the targets."""
        return layer if size is None or shape[1:] == size else f"{layer} averaged to {shape_text(size)}"

    def connect(self, pairs: Sequence[tuple[Shape, Shape]]) -> None:
        """Create what is trained between the layers: here, the projector.

        Args:
            pairs: The shapes of each pair of layers, (C, H, W) each where maps are compared.

        Raises:
            UserError: Maps that are to be equally large are not, or there is a projector for more than one pair.
        """
        names = zip(self.student_layers, self.teacher_layers, strict=True)
        for (own, other), (name, teacher), size in zip(pairs, names, self.sizes, strict=True):
            if self.want == "map" and size is None and self.projection != "ConvReg" and own[1:] != other[1:]:
                raise UserError(
                    f"{type(self).__name__} needs maps of equal height and width, but '{name}' gives "
                    f"{shape_text(own)} and '{teacher}' {shape_text(other)}; name layers of the same size."
                )
        if self.projection is not None:
            if len(pairs) > 1:
                raise UserError(f"{type(self).__name__} projects one layer, but student names {len(pairs)}; name one.")
            self.projector = projector(self.projection, *pairs[0])

    def teacher_target(self, teacher: Outputs) -> Targets:
        """Return what the teacher's layers give, maps averaged down where the student's are smaller."""
        found = zip(self.keys, self.teacher_layers, self.sizes, strict=True)
        return {key: self.prepared(teacher.maps[name], size) for key, name, size in found}

    def forward(self, student: Outputs, target: Targets, batch: Batch) -> Tensor:
        """Return the sum over the pairs of layers, a scalar."""
        compare = self._compare_vectors if self.want == "vector" else self.compare
        return reduce(add, (compare(own, other) for own, other in self.pairs(student, target)))

    def pairs(self, student: Outputs, target: Targets) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield what of student and teacher is compared, of each pair of layers."""
        for name, key, size in zip(self.student_layers, self.keys, self.sizes, strict=True):
            own = self.prepared(student.maps[name], size)
            yield (own if self.projection is None else self.projector(own)), target[key]

    def prepared(self, values: Tensor, size: Size) -> Tensor:
        """Return what is compared of a layer's output: here, the map averaged down to a height and width."""
        return averaged(values, size)

    def _compare_vectors(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss of all values of each image, averaged over the parts of a batch."""
        count = 1 if self.training else ceil(len(student) / MAX_IMAGES)
        parts = zip(student.tensor_split(count), teacher.tensor_split(count), strict=True)
        with torch.autocast(student.device.type, enabled=False):
            return torch.stack([self.compare(_vectors(own), _vectors(other)) for own, other in parts]).mean()

    @abstractmethod
    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss between the same images in a pair of layers, a scalar.

        Args:
            student: (B, C, H, W), after the projector where there is one; or (B, D) where ``want`` is ``vector``.
            teacher: (B, C', H, W), or (B, D').
        """


def smaller_size(one: Shape, other: Shape) -> tuple[int, int]:
    """Return the height and width that two maps, (C, H, W) each, can both be averaged down to."""
    return min(one[1], other[1]), min(one[2], other[2])


def _names(layers: str | list[str]) -> tuple[str, ...]:
    return (layers,) if isinstance(layers, str) else tuple(layers)


def _vectors(values: Tensor) -> Tensor:
    return to_float32(values).reshape(len(values), -1)  # (B, ...) -> (B, D)


def as_map(values: Tensor) -> Tensor:
    """Return a vector as a 1x1 map, (B, C) -> (B, C, 1, 1), and a map as it is."""
    return values[:, :, None, None] if values.ndim == 2 else values


def averaged(values: Tensor, size: Size) -> Tensor:
    """Return a map averaged down to a height and width, (B, C, H, W) or (B, C) -> (B, C, *size).

    Args:
        values: A map, or a vector, which is a 1x1 map.
        size: Height and width; ``None`` leaves any values as they are.
    """
    if size is None:
        return values
    maps = as_map(values)
    return maps if maps.shape[2:] == size else functional.adaptive_avg_pool2d(maps, size)


def same_shape(one: Tensor, other: Tensor) -> None:
    """Raise ``ValueError`` where two tensors have different shapes."""
    if one.shape != other.shape:
        raise ValueError(f"tensors of shape {tuple(one.shape)} and {tuple(other.shape)} have different shapes")
