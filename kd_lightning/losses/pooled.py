"""Shared code of the losses that compare maps position by position, the larger map averaged down to the smaller one."""

from abc import abstractmethod
from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import functional

from kd_lightning.errors import UserError
from kd_lightning.losses.base import Loss, Targets, require_teacher
from kd_lightning.losses.features import FeatureLoss, shape_text, smaller_size
from kd_lightning.networks.layers import Outputs, Shapes

if TYPE_CHECKING:
    from kd_lightning.data.loader import Batch


def as_map(values: Tensor) -> Tensor:
    """Return a vector as a 1x1 map, (B, C) -> (B, C, 1, 1), and a map as it is."""
    return values[:, :, None, None] if values.ndim == 2 else values


def averaged(values: Tensor, size: tuple[int, int]) -> Tensor:
    """Return a map averaged down to a height and width, (B, C, H, W) or (B, C) -> (B, C, *size)."""
    maps = as_map(values)
    return maps if maps.shape[2:] == size else functional.adaptive_avg_pool2d(maps, size)


def map_shape(loss: Loss, layer: str, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return the channels, height and width of a layer's output; a vector is a 1x1 map.

    Raises:
        UserError: The output is neither a vector nor a map.
    """
    if len(shape) not in (1, 3):
        raise UserError(
            f"{type(loss).__name__} needs vectors, or maps of channels, height and width, but '{layer}' gives "
            f"{shape_text(shape)}; name another layer."
        )
    channels, height, width = (*shape, 1, 1)[:3]
    return channels, height, width


class PooledLoss(FeatureLoss):
    """A loss between maps of equal height and width: the larger is averaged down; a vector is a 1x1 map."""

    size: tuple[int, int]
    key: str

    def build(self, student: Shapes, teacher: Shapes | None) -> None:
        """Find the size of the smaller map, and create what is trained between the two."""
        require_teacher(self, teacher)
        assert teacher is not None
        own = map_shape(self, self.student, student[self.student])
        other = map_shape(self, self.teacher, teacher[self.teacher])
        self.size = smaller_size(own, other)
        is_whole = teacher[self.teacher] == (other[0], *self.size)
        self.key = self.teacher if is_whole else f"{self.teacher} averaged to {shape_text(self.size)}"
        self.connect(own[0], other[0])

    def target(self, teacher: Outputs) -> Targets:
        """Return the teacher's map, averaged down where the student's is smaller, (B, C, H, W)."""
        return {self.key: averaged(teacher.maps[self.teacher], self.size)}

    def forward(self, student: Outputs, target: Targets, batch: "Batch") -> Tensor:
        """Return the loss between the maps at the smaller size, a scalar."""
        return self.compare(averaged(student.maps[self.student], self.size), target[self.key])

    @abstractmethod
    def connect(self, channels: int, target: int) -> None:
        """Create what is trained between the student's ``channels`` and the teacher's ``target`` channels."""

    @abstractmethod
    def compare(self, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        """Return the loss between maps (B, C, H, W) and (B, C', H, W), a scalar."""
