"""What losses share that compare how the images of a batch lie to each other."""

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

SHORTEST = 1e-6
"""Length from which a vector has a direction."""

EVALUATED = 128
"""Images whose relations are looked at in evaluation mode at once: as many as a training batch has by default."""


def directions(vectors: Tensor, shortest: float = SHORTEST) -> Tensor:
    """Return vectors (B, D) at length one; those of no length stay zeros, and get no gradient."""
    lengths: Tensor = linalg.vector_norm(vectors, dim=1, keepdim=True)
    return vectors / lengths.where(lengths > shortest, torch.inf)


class RelationLoss(FeatureLoss):
    """A loss between the relations that a layer of the student and one of the teacher see among a batch's images.

    The layers may have any shapes: all values of an image are one vector. It needs no projector, and is computed in
    single precision where the networks run in less: relations are small differences of large numbers. In evaluation
    mode, where batches are much larger, relations are those within parts of up to ``EVALUATED`` images.
    """

    def build(self, student: Shapes, teacher: Shapes | None) -> None:
        """Check that there is a teacher."""
        require_teacher(self, teacher)

    def forward(self, student: Outputs, target: Targets, batch: "Batch") -> Tensor:
        """Return the loss of the batch, a scalar."""
        own, other = student.maps[self.student], target[self.teacher]
        count = 1 if self.training else ceil(len(own) / EVALUATED)
        parts = zip(own.tensor_split(count), other.tensor_split(count), strict=True)
        with torch.autocast(own.device.type, enabled=False):
            return torch.stack([self.compare(_vectors(one), _vectors(two)) for one, two in parts]).mean()

    @abstractmethod
    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the loss between vectors (B, D) and (B, D') of the same images, a scalar."""


def _vectors(values: Tensor) -> Tensor:
    return to_float32(values).reshape(len(values), -1)  # (B, ...) -> (B, D)
