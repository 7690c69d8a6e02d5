"""Distillation losses: plain functions on tensors, each with its source."""

import torch
from torch import Tensor
from torch.nn import functional


def flattened_cosine_loss(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Return one minus the cosine between the flattened feature maps, averaged over the batch.

    The teacher's flattened map is averaged over neighbours to the student's length, as in PyTorch's knowledge
    distillation tutorial (https://pytorch.org/tutorials/beginner/knowledge_distillation_tutorial.html), where this is
    ``CosineEmbeddingLoss`` with targets of one.

    Args:
        student_map: (B, C, H, W).
        teacher_map: (B, C', H', W') with a multiple of the student's number of values.

    Returns:
        A scalar in [0, 2].

    Raises:
        ValueError: The teacher's values are no multiple of the student's.
    """
    student = student_map.flatten(1)
    pooled = pooled_values(teacher_map, student.shape[1])
    return functional.cosine_embedding_loss(student, pooled, torch.ones_like(student[:, 0]))


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
    if regressed_map.shape != teacher_map.shape:
        raise ValueError(f"maps of shape {tuple(regressed_map.shape)} and {tuple(teacher_map.shape)} do not compare")
    return functional.mse_loss(regressed_map, teacher_map)
