"""Shared code of the losses on several pairs of layers."""

from collections.abc import Sequence
from typing import ClassVar

from kd_lightning.errors import UserError
from kd_lightning.losses.base import Loss, require_teacher
from kd_lightning.losses.features import shape_text
from kd_lightning.losses.pooled import map_shape
from kd_lightning.networks.layers import Shapes


class MultiLayerLoss(Loss):
    """A loss between layers of the student and as many layers of the teacher.

    Args:
        student: The student's layers, one per stage.
        teacher: The teacher's layers, in the same order; by default the student's names.
        weight: Factor of the term in the total loss.
        warm_up: Epochs over which the weight rises.

    Raises:
        UserError: The numbers of layers differ, or are 0.

    Attributes:
        takes_vectors: Whether a layer may give a vector, which is a 1x1 map.
    """

    takes_vectors: ClassVar[bool] = False

    def __init__(self, student: list[str], teacher: list[str] | None, weight: float, warm_up: int) -> None:
        super().__init__(weight, warm_up)
        self.student, self.teacher = tuple(student), tuple(student if teacher is None else teacher)
        if len(self.student) != len(self.teacher) or not self.student:
            raise UserError(
                f"{type(self).__name__} compares pairs of layers, but student names {len(self.student)} and teacher "
                f"{len(self.teacher)}; name as many in each."
            )

    @property
    def student_layers(self) -> Sequence[str]:
        """The student's layers."""
        return self.student

    @property
    def teacher_layers(self) -> Sequence[str]:
        """The teacher's layers."""
        return self.teacher

    def maps(self, shapes: Shapes, teacher: Shapes | None) -> list[tuple[tuple[int, int, int], tuple[int, int, int]]]:
        """Return the shapes (C, H, W) of each pair of maps.

        Raises:
            UserError: There is no teacher, or one of the layers does not give a map.
        """
        require_teacher(self, teacher)
        assert teacher is not None
        pairs = zip(self.student, self.teacher, strict=True)
        return [(self._map(own, shapes), self._map(other, teacher)) for own, other in pairs]

    def _map(self, name: str, shapes: Shapes) -> tuple[int, int, int]:
        shape = shapes[name]
        if self.takes_vectors:
            return map_shape(self, name, shape)
        if len(shape) != 3:
            raise UserError(
                f"{type(self).__name__} needs maps of channels, height and width, but '{name}' gives "
                f"{shape_text(shape)}; name a convolution, a block or a stage."
            )
        return shape[0], shape[1], shape[2]
