"""The small contract that every loss follows."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from kd_lightning.errors import UserError
from kd_lightning.networks.layers import Outputs, Shapes

if TYPE_CHECKING:
    from kd_lightning.data.loader import Batch

Targets = dict[str, Tensor]
"""What a loss keeps of a teacher's outputs, (B, ...) each, by keys of its own, which no other loss sees. A key should
say all about its values: tables that are kept for later runs are found by it."""


class Loss(nn.Module, ABC):
    """One named term of what a task minimizes.

    A loss of your own subclasses this, hands ``weight`` and ``warm_up`` on and writes ``forward``; one that learns from
    the teacher writes ``target`` too. It must not wait for the device (no ``item()``, no shape that depends on values),
    keep what changes in buffers that are changed in place, and be finite for one image.

    Args:
        weight: What the term is multiplied with in the sum.
        warm_up: Epochs in which the weight rises, by the same step in each, from ``weight / warm_up``; 0 has it whole
            from the start.

    Attributes:
        weight: The weight of the running epoch, a 0-d buffer that is filled in place: a captured step reads it anew.
        short: The name that the field's papers and tables have for it, such as ``kd``; empty where there is none.
        needs_hard_labels: Whether it is undefined for images that were mixed (Mixup, CutMix): it needs one label, or
            one row, of each. Training is then refused before it starts.
    """

    weight: Tensor
    short: ClassVar[str] = ""
    needs_hard_labels: ClassVar[bool] = False

    def __init__(self, weight: float = 1.0, warm_up: int = 0) -> None:
        super().__init__()
        if warm_up < 0:
            raise UserError(f"warm_up of {type(self).__name__} is {warm_up}, but it must be 0 epochs or more.")
        self.warm_up = warm_up
        self.register_buffer("weight", torch.tensor(float(weight)), persistent=False)
        self.set_weight(weight)

    def set_weight(self, weight: float) -> None:
        """Give the weight that it has once it has risen."""
        self.full_weight = weight
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Give the weight that it has in an epoch, counted from 0."""
        share = min(1.0, (epoch + 1) / self.warm_up) if self.warm_up else 1.0
        self.weight.fill_(self.full_weight * share)

    @property
    def student_layers(self) -> Sequence[str]:
        """The student's layers that ``forward`` sees; none where logits are enough."""
        return ()

    @property
    def teacher_layers(self) -> Sequence[str]:
        """The teacher's layers that ``target`` sees; none where logits are enough."""
        return ()

    def build(self, student: Shapes, teacher: Shapes | None) -> None:
        """Make what depends on the shapes of the layers, such as a projector.

        Args:
            student: The shape of each of the student's layers, and of its logits.
            teacher: The teacher's; ``None`` where there is no teacher.

        Raises:
            UserError: The shapes do not fit each other.
        """

    def start(self, images: int, labels: Tensor | None) -> None:
        """Make what depends on the data, such as a memory of each image; a checkpoint is read after it.

        Args:
            images: Images in the data set that the batches' rows are numbers of.
            labels: Their class indices, (images,); ``None`` where nothing is trained.
        """

    def target(self, teacher: Outputs) -> Targets:
        """Return all that the loss needs of the teacher's outputs: of a remembered teacher nothing else is kept.

        Args:
            teacher: The teacher's outputs, of ``teacher_layers`` alone.
        """
        return {}

    @abstractmethod
    def forward(self, student: Outputs, target: Targets, batch: "Batch") -> Tensor:
        """Return the loss of a batch, a scalar, without its weight.

        What it is given others see, too, and is not to be changed in place.

        Args:
            student: The student's outputs, of ``student_layers`` alone.
            target: What ``target`` gave for the same images.
            batch: Images, labels and rows.
        """


def require_teacher(loss: Loss, teacher: object | None) -> None:
    """Raise a ``UserError`` where a loss that learns from a teacher has none."""
    if teacher is None:
        raise UserError(f"{type(loss).__name__} learns from a teacher; use it with the task Distill.")


def to_float32(values: Tensor) -> Tensor:
    """Return values of half precision in single precision, and others as they are."""
    return values.float() if values.dtype.itemsize < 4 else values
