"""Shared code of the losses on feature maps: the layers that they compare, and the projector between them."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from torch import Tensor, nn
from torch.nn import functional

from kd_lightning.errors import UserError
from kd_lightning.losses.base import Loss, Targets, require_teacher
from kd_lightning.networks.layers import Outputs, Shapes

if TYPE_CHECKING:
    from kd_lightning.data.loader import Batch

Projection = Literal["none", "1x1", "3x3", "3x3 normalized", "ConvReg"]
"""A projector: none, a 1x1 or 3x3 convolution, or a 3x3 one without bias, followed by BatchNorm and ReLU;
``ConvReg`` is what ``regressor`` returns."""


class FeatureLoss(Loss):
    """A loss between one layer of the student and one of the teacher.

    Args:
        student: The student's layer, such as ``features`` or ``layer2.0.conv1``.
        teacher: The teacher's layer; by default the student's name.
        weight: Factor of the term in the total loss.
        warm_up: Epochs over which the weight rises.

    Attributes:
        kind: The projector between the layers.
    """

    kind: Projection = "none"

    def __init__(self, student: str, teacher: str | None, weight: float, warm_up: int) -> None:
        super().__init__(weight, warm_up)
        self.student = student
        self.teacher = student if teacher is None else teacher

    @property
    def student_layers(self) -> Sequence[str]:
        """The student's layer."""
        return (self.student,)

    @property
    def teacher_layers(self) -> Sequence[str]:
        """The teacher's layer."""
        return (self.teacher,)

    def target(self, teacher: Outputs) -> Targets:
        """Return the teacher's map, (B, C, H, W)."""
        return {self.teacher: teacher.maps[self.teacher]}

    def maps(self, shapes: Shapes, teacher: Shapes | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the shapes (C, H, W) of the student's and the teacher's map.

        Raises:
            UserError: There is no teacher, or one of the layers does not give a map.
        """
        require_teacher(self, teacher)
        assert teacher is not None
        found = shapes[self.student], teacher[self.teacher]
        for name, shape in zip((self.student, self.teacher), found, strict=True):
            if len(shape) != 3:
                raise UserError(
                    f"{type(self).__name__} needs maps of channels, height and width, but '{name}' gives "
                    f"{shape_text(shape)}; name a convolution, a block or a stage."
                )
        return found

    def require_same_size(self, student: Sequence[int], teacher: Sequence[int]) -> None:
        """Raise a ``UserError`` where the maps differ in height or width."""
        if student[-2:] != teacher[-2:]:
            raise UserError(
                f"{type(self).__name__} needs maps of equal height and width, but '{self.student}' gives "
                f"{shape_text(student)} and '{self.teacher}' {shape_text(teacher)}; name layers of the same size."
            )


class ProjectedLoss(FeatureLoss):
    """A loss between the teacher's map and what a trained projector makes of the student's.

    Args:
        student: The student's layer.
        teacher: The teacher's layer; by default the student's name.
        kind: The projector.
        weight: Factor of the term in the total loss.
        warm_up: Epochs over which the weight rises.
    """

    def __init__(self, student: str, teacher: str | None, kind: Projection, weight: float, warm_up: int) -> None:
        super().__init__(student, teacher, weight, warm_up)
        self.kind: Projection = kind

    def build(self, student: Shapes, teacher: Shapes | None) -> None:
        """Create the projector."""
        own, target = self.maps(student, teacher)
        if self.kind == "ConvReg":
            self.projector: nn.Module = regressor(own, target)
            return
        self.require_same_size(own, target)
        self.projector = projector(self.kind, own[0], target[0])

    def forward(self, student: Outputs, target: Targets, batch: "Batch") -> Tensor:
        """Return the loss between the projected map and the teacher's, a scalar."""
        return self.compare(self.projector(student.maps[self.student]), target[self.teacher])

    @abstractmethod
    def compare(self, projected_map: Tensor, teacher_map: Tensor) -> Tensor:
        """Return the loss between two maps (B, C, H, W) of the same shape, a scalar."""


def shape_text(shape: Sequence[int]) -> str:
    """Return a shape as ``16x8x8``."""
    return "x".join(map(str, shape)) or "one number"


def smaller_size(one: Sequence[int], other: Sequence[int]) -> tuple[int, int]:
    """Return the height and width that two maps, (C, H, W) each, can both be averaged down to."""
    return min(one[1], other[1]), min(one[2], other[2])


class Norm(nn.BatchNorm2d):
    """Batch normalization that uses the running statistics for one image of one pixel, which has no variance."""

    def forward(self, values: Tensor) -> Tensor:
        """Return maps (B, C, H, W), normalized."""
        if values.numel() > values.shape[1]:
            return super().forward(values)
        return functional.batch_norm(values, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


def projector(kind: Projection, channels: int, target: int) -> nn.Module:
    """Return a module from ``channels`` to ``target`` channels, (B, C, H, W) -> (B, C', H, W).

    Raises:
        UserError: The projector is ``none``, but the channels differ.
    """
    if kind == "none":
        if channels != target:
            raise UserError(
                f"projector is none, but {channels} and {target} channels need one; set projector to 1x1 or 3x3."
            )
        return nn.Identity()
    if kind == "1x1":
        return nn.Conv2d(channels, target, kernel_size=1)
    if kind == "3x3":
        return nn.Conv2d(channels, target, kernel_size=3, padding=1)
    return nn.Sequential(nn.Conv2d(channels, target, kernel_size=3, padding=1, bias=False), Norm(target), nn.ReLU())


def regressor(student: Sequence[int], teacher: Sequence[int]) -> nn.Sequential:
    """Return the projector that RepDistiller and mdistiller call ``ConvReg``: a convolution, BatchNorm and ReLU.

    The convolution depends on the heights and widths: 1x1 where they are equal; 3x3 with stride 2 where the student's
    are twice the teacher's; transposed, 4x4 with stride 2, where they are half; else, where the student's are larger,
    without padding and with a kernel of the difference plus one.

    Args:
        student: (C, H, W) of the student's map.
        teacher: (C, H, W) of the teacher's.

    Raises:
        UserError: The student's map is smaller, but not half as large.
    """
    (channels, *own), (target, *other) = student, teacher
    if own == [2 * size for size in other]:
        convolution: nn.Module = nn.Conv2d(channels, target, kernel_size=3, stride=2, padding=1)
    elif other == [2 * size for size in own]:
        convolution = nn.ConvTranspose2d(channels, target, kernel_size=4, stride=2, padding=1)
    elif own[0] >= other[0] and own[1] >= other[1]:
        convolution = nn.Conv2d(channels, target, kernel_size=(1 + own[0] - other[0], 1 + own[1] - other[1]))
    else:
        raise UserError(
            f"ConvReg needs a student's map that is half as large as the teacher's, as large or larger, not "
            f"{shape_text(own)} beside {shape_text(other)}; name other layers."
        )
    return nn.Sequential(convolution, Norm(target), nn.ReLU())


def same_shape(one: Tensor, other: Tensor) -> None:
    """Raise ``ValueError`` where two tensors have different shapes."""
    if one.shape != other.shape:
        raise ValueError(f"tensors of shape {tuple(one.shape)} and {tuple(other.shape)} have different shapes")
