"""Projectors: what is trained between the student's feature map and the teacher's."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from kd_lightning.errors import UserError

Projection = Literal["none", "1x1", "3x3", "3x3 normalized", "ConvReg"]
"""A projector: none, a 1x1 or 3x3 convolution, or a 3x3 one without bias, followed by BatchNorm and ReLU;
``ConvReg`` is what ``regressor`` returns."""


def shape_text(shape: Sequence[int]) -> str:
    """Return a shape as ``16x8x8``."""
    return "x".join(map(str, shape)) or "one number"


class Norm(nn.BatchNorm2d):
    """Batch normalization that uses the running statistics for one image of one pixel, which has no variance."""

    def forward(self, values: Tensor) -> Tensor:
        """Return maps (B, C, H, W), normalized."""
        if values.numel() > values.shape[1]:
            return super().forward(values)
        return functional.batch_norm(values, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


def projector(kind: Projection, student: Sequence[int], teacher: Sequence[int]) -> nn.Module:
    """Return a module from the student's map to the teacher's channels, (B, C, H, W) -> (B, C', H', W').

    Args:
        kind: Its kind.
        student: (C, H, W) of the student's map.
        teacher: (C', H', W') of the teacher's.

    Raises:
        UserError: The kind does not fit the shapes.
    """
    channels, target = student[0], teacher[0]
    if kind == "ConvReg":
        return regressor(student, teacher)
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
