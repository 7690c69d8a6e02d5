"""Distillation losses: plain functions on tensors, each with its source."""

from collections.abc import Sequence
from math import prod

from torch import Tensor, linalg
from torch.nn import functional

SHORTEST = 1e-6
"""Length from which a vector has a direction."""


def cosine_loss(student_map: Tensor, direction: Tensor) -> Tensor:
    """Return one minus the cosine between the student's map and a direction, averaged over the batch.

    With ``pooled_direction`` of the teacher's map it is the loss of PyTorch's knowledge distillation tutorial
    (https://pytorch.org/tutorials/beginner/knowledge_distillation_tutorial.html), ``CosineEmbeddingLoss`` of the
    flattened maps with targets of one, in half of its operations: the teacher's length is divided out only once.

    Args:
        student_map: (B, C, H, W).
        direction: Of length one, (B, C, H, W).

    Returns:
        A scalar in [0, 2].

    Raises:
        ValueError: The shapes differ.
    """
    _require_same_shape(student_map, direction)
    student, target = (_full(values).permute(0, 2, 3, 1).flatten(1) for values in (student_map, direction))
    return 1 - ((student * target).sum(1) / _length(student)).mean()


def pooled_direction(teacher_map: Tensor, shape: Sequence[int]) -> Tensor:
    """Return the direction of a teacher's flattened map, averaged over neighbours to the size of a student's map.

    Args:
        teacher_map: (B, C', H', W').
        shape: (C, H, W) of the student's map, with a divisor of the teacher's number of values.

    Returns:
        (B, C, H, W), each of length one.

    Raises:
        ValueError: The teacher's values are no multiple of the student's.
    """
    pooled = _full(pooled_values(teacher_map, prod(shape)))
    directions = pooled / _length(pooled).unsqueeze(1)
    return directions.to(teacher_map.dtype).view(-1, *shape)


def _length(vectors: Tensor) -> Tensor:
    lengths: Tensor = linalg.vector_norm(vectors, dim=1)
    return lengths.clamp_min(SHORTEST)


def _full(values: Tensor) -> Tensor:
    """Return values of half precision in single precision, and others as they are."""
    return values.float() if values.dtype.itemsize < 4 else values


def pooled_values(feature_map: Tensor, length: int) -> Tensor:
    """Return a flattened feature map averaged over neighbours, (B, C, H, W) -> (B, length).

    Raises:
        ValueError: The map's values are no multiple of ``length``.
    """
    values = feature_map.flatten(1)
    factor, rest = divmod(values.shape[1], length)
    if factor == 0 or rest:
        raise ValueError(f"{values.shape[1]} teacher values do not pool to the student's {length}")
    return functional.avg_pool1d(values.unsqueeze(1), factor).squeeze(1) if factor > 1 else values


def feature_map_loss(regressed_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Return the mean squared error between two feature maps of one shape.

    FitNets (Romero et al., ICLR 2015, https://arxiv.org/abs/1412.6550): the student's map reaches the teacher's shape
    through a trained regressor.

    Args:
        regressed_map: The student's map after the regressor, (B, C, H, W).
        teacher_map: (B, C, H, W).

    Returns:
        A scalar, 0 or more.

    Raises:
        ValueError: The shapes differ.
    """
    _require_same_shape(regressed_map, teacher_map)
    return functional.mse_loss(regressed_map, teacher_map)


def _require_same_shape(one: Tensor, other: Tensor) -> None:
    if one.shape != other.shape:
        raise ValueError(f"maps of shape {tuple(one.shape)} and {tuple(other.shape)} do not compare")
