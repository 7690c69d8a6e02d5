"""Shared code of the losses on relations between the images of a batch."""

from abc import abstractmethod
from math import ceil
from typing import TYPE_CHECKING

import torch
from torch import Tensor, linalg

from kd_lightning.losses.base import Targets, require_teacher, to_float32
from kd_lightning.losses.features import FeatureLoss
from kd_lightning.networks.layers import Outputs, Shapes

if TYPE_CHECKING:
    from kd_lightning.data.loader import Batch

MIN_LENGTH = 1e-6
"""Length up to which a vector counts as zero."""

MAX_IMAGES = 128
"""Images that are related to each other in evaluation mode: as many as a training batch has by default."""


def directions(vectors: Tensor, min_length: float = MIN_LENGTH) -> Tensor:
    """Return vectors (B, D) at length one; those up to ``min_length`` become zeros and get no gradient."""
    lengths: Tensor = linalg.vector_norm(vectors, dim=1, keepdim=True)
    return vectors / lengths.where(lengths > min_length, torch.inf)


class RelationLoss(FeatureLoss):
    """A loss between the relations of a batch's images in a layer of the student and in one of the teacher.

    The layers may have any shapes: each image's values are flattened to one vector. It needs no projector. It is
    computed in float32 where the networks run in less: relations are small differences of large numbers. In evaluation
    mode, where batches are much larger, it relates the images within parts of up to ``MAX_IMAGES``.
    """

    def build(self, student: Shapes, teacher: Shapes | None) -> None:
        """Check that there is a teacher."""
        require_teacher(self, teacher)

    def forward(self, student: Outputs, target: Targets, batch: "Batch") -> Tensor:
        """Return the loss, averaged over the parts of the batch, a scalar."""
        own, other = student.maps[self.student], target[self.teacher]
        count = 1 if self.training else ceil(len(own) / MAX_IMAGES)
        parts = zip(own.tensor_split(count), other.tensor_split(count), strict=True)
        with torch.autocast(own.device.type, enabled=False):
            return torch.stack([self.compare(_vectors(one), _vectors(two)) for one, two in parts]).mean()

    @abstractmethod
    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss between vectors (B, D) and (B, D') of the same images, a scalar."""


def _vectors(values: Tensor) -> Tensor:
    return to_float32(values).reshape(len(values), -1)  # (B, ...) -> (B, D)
