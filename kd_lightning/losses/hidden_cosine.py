"""The cosine between hidden representations, as in PyTorch's tutorial."""

from collections.abc import Sequence
from math import prod

from torch import Tensor, linalg
from torch.nn import functional

from kd_lightning.errors import UserError
from kd_lightning.losses.base import Targets, to_float32
from kd_lightning.losses.layers import LayerLoss, Shape, same_shape
from kd_lightning.losses.projectors import shape_text
from kd_lightning.networks.layers import Outputs

MIN_LENGTH = 1e-6
"""Smallest length that a vector is divided by."""


def cosine_loss(student_map: Tensor, direction: Tensor) -> Tensor:
    """Return one minus the cosine between the student's map and a direction, averaged over the batch.

    With ``pooled_direction`` of the teacher's map it is the loss of PyTorch's knowledge distillation tutorial
    (https://pytorch.org/tutorials/beginner/knowledge_distillation_tutorial.html), ``CosineEmbeddingLoss`` of the
    flattened maps with targets of one, with half of its operations: the teacher's vectors are normalized only once.

    Args:
        student_map: (B, C, H, W).
        direction: Of length one, (B, C, H, W).

    Returns:
        A scalar in [0, 2].

    Raises:
        ValueError: The shapes differ.
    """
    same_shape(student_map, direction)
    # (B, C, H, W) -> (B, H*W*C)
    student, target = (to_float32(values).permute(0, 2, 3, 1).flatten(1) for values in (student_map, direction))
    return 1 - ((student * target).sum(1) / _length(student)).mean()


def pooled_direction(teacher_map: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the direction of a teacher's flattened map, averaged over neighbours to the size of a student's map.

    Args:
        teacher_map: (B, C', H', W').
        shape: (C, H, W) of the student's map, with a divisor of the teacher's number of values.

    Returns:
        (B, C, H, W), each of length one.

    Raises:
        ValueError: The number of the teacher's values is not a multiple of the student's.
    """
    pooled = to_float32(pooled_values(teacher_map, prod(shape)))
    directions = pooled / _length(pooled).unsqueeze(1)
    return directions.to(teacher_map.dtype).view(-1, *shape)


def pooled_values(feature_map: Tensor, length: int) -> Tensor:
    """Return a flattened feature map averaged over neighbours, (B, C, H, W) -> (B, length).

    Raises:
        ValueError: The number of values is not a multiple of ``length``.
    """
    values = feature_map.flatten(1)
    factor, rest = divmod(values.shape[1], length)
    if factor == 0 or rest:
        raise ValueError(f"{values.shape[1]} teacher values do not pool to the student's {length}")
    return functional.avg_pool1d(values.unsqueeze(1), factor).squeeze(1) if factor > 1 else values


def _length(vectors: Tensor) -> Tensor:
    lengths: Tensor = linalg.vector_norm(vectors, dim=1)
    return lengths.clamp_min(MIN_LENGTH)


class HiddenCosine(LayerLoss):
    """One minus the cosine between the flattened maps, the teacher's averaged over neighbours to the student's length.

    The loss of PyTorch's knowledge distillation tutorial. The averaging mixes columns and rows, so most of the
    teacher's values are compared with student values at other positions. Measured, it does not help; ``SpatialCosine``
    does.

    The tutorial's weight is 0.25 beside labels at 0.75, for 10 classes; 100 classes are not measured. It has no
    parameters. The teacher cache holds as many numbers per image as the student's map has. It is defined for a batch of
    one; a map of zeros has no direction and a loss of one.

    Raises:
        UserError: The teacher's map does not pool to the student's length.
    """

    short = "cosine"

    def __init__(self, student: str, teacher: str | None = None, weight: float = 0.25, warm_up: int = 0) -> None:
        super().__init__(student, teacher, weight, warm_up)

    def connect(self, pairs: Sequence[tuple[Shape, Shape]]) -> None:
        """Check that the teacher's values are a multiple of the student's."""
        [(self.shape, target)] = pairs
        [own], [other] = self.student_layers, self.teacher_layers
        if prod(target) % prod(self.shape):
            raise UserError(
                f"the teacher's '{other}' has {prod(target)} values, which do not pool to the {prod(self.shape)} of "
                f"the student's '{own}'; choose layers of which one is a multiple of the other, or another loss, such "
                "as FeatureRegression."
            )
        self.keys = [f"direction of {other} pooled to {shape_text(self.shape)}"]

    def teacher_target(self, teacher: Outputs) -> Targets:
        """Return the direction of the teacher's map, pooled to the size of the student's, (B, C, H, W)."""
        return {self.keys[0]: pooled_direction(teacher.maps[self.teacher_layers[0]], self.shape)}

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the mean over the batch, a scalar in [0, 2]."""
        return cosine_loss(student, teacher)
