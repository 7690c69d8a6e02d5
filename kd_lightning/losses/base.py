"""The interface of every loss."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from kd_lightning.data.loader import Batch
from kd_lightning.docstrings import show_options
from kd_lightning.errors import UserError
from kd_lightning.networks.base import Network
from kd_lightning.networks.layers import Outputs, Shapes

Targets = dict[str, Tensor]
"""What a loss keeps of a teacher's outputs, (B, ...) each, by keys of its own. A key describes its values completely:
teacher caches on disk are found by it."""


class Loss(nn.Module, ABC):
    """One named term of what a task minimizes.

    A loss of your own subclasses ``LogitLoss`` or ``LayerLoss`` and implements ``compare``, or this and implements
    ``forward``, and ``teacher_target`` where it learns from a teacher. It must not synchronize with the device (no
    ``item()``, no shape that depends on values), must keep its state in buffers that it updates in place, and must be
    finite for one image. Its docstring need not repeat the arguments that it shares with its bases.

    Args:
        weight: Factor of the term in the total loss.
        warm_up: Epochs over which the weight rises linearly, from ``weight / warm_up``; 0 gives the full weight from
            the start.

    Attributes:
        student_layers: The student's layers that ``forward`` reads; none where logits are enough.
        teacher_layers: The teacher's layers that ``teacher_target`` reads.
        weight: The weight of the current epoch, a 0-d buffer that is filled in place, so that a captured step sees its
            changes.
        short: Its short name in papers and tables, such as ``kd``; empty where there is none.
        needs_labels: Whether it reads the images' labels. It then sees only the labelled images of a batch; any other
            loss sees all of them, also where some have no label.
        needs_hard_labels: Whether it needs one label, or one row, per image, and so cannot train on mixed images
            (Mixup, CutMix). Training with these is then refused before it starts. It sees only labelled images.
    """

    student_layers: Sequence[str] = ()
    teacher_layers: Sequence[str] = ()
    weight: Tensor
    short: ClassVar[str] = ""
    needs_labels: ClassVar[bool] = False
    needs_hard_labels: ClassVar[bool] = False

    def __init_subclass__(cls, **options: Any) -> None:
        """Describe in the docstring also those arguments that only the bases describe."""
        super().__init_subclass__(**options)
        show_options(cls)

    def __init__(self, weight: float = 1.0, warm_up: int = 0) -> None:
        super().__init__()
        if warm_up < 0:
            raise UserError(f"warm_up of {type(self).__name__} is {warm_up}, but it must be 0 epochs or more.")
        self.warm_up = warm_up
        self.register_buffer("weight", torch.tensor(float(weight)), persistent=False)
        self.set_weight(weight)

    def set_weight(self, weight: float) -> None:
        """Set the weight after the warm-up."""
        self.full_weight = weight
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Set the weight of an epoch, counted from 0."""
        share = min(1.0, (epoch + 1) / self.warm_up) if self.warm_up else 1.0
        self.weight.fill_(self.full_weight * share)

    def build(self, student: Shapes, teacher: Shapes | None) -> None:
        """Create what depends on the shapes of the layers, such as a projector.

        Args:
            student: The shape of each of the student's layers, and of its logits.
            teacher: The same of the teacher; ``None`` without one.

        Raises:
            UserError: The shapes do not match.
        """

    def attach(self, student: Network, teacher: Network, order: Tensor | None) -> None:
        """Keep what the loss reads of the networks themselves, such as the weights of a last layer.

        It is called where the loss has ``teacher_layers``.

        Args:
            student: The student, re-parameterized where it is trained so.
            teacher: The teacher's network.
            order: The places of the data's classes in the teacher's outputs, (num_classes,); ``None`` where they are
                the same.

        Raises:
            UserError: They are not what the loss needs.
        """

    def start(self, images: int, labels: Tensor | None) -> None:
        """Create what depends on the data, such as a memory bank; a checkpoint is loaded after it.

        Args:
            images: Number of images in the data set that the batches' rows index.
            labels: Their class indices, (images,), -1 for those without a label; ``None`` outside of training.
        """

    def teacher_target(self, teacher: Outputs) -> Targets:
        """Return all that the loss needs of the teacher's outputs: the teacher cache holds nothing else.

        Args:
            teacher: The teacher's outputs, only of ``teacher_layers``.
        """
        return {}

    @property
    def learns_from_teacher(self) -> bool:
        """Whether it compares the student with a teacher."""
        return type(self).teacher_target is not Loss.teacher_target

    @property
    def sees_labelled(self) -> bool:
        """Whether it sees only the labelled images of a batch."""
        return self.needs_labels or self.needs_hard_labels

    @abstractmethod
    def forward(self, student: Outputs, target: Targets, batch: Batch) -> Tensor:
        """Return the unweighted loss of a batch, a scalar.

        Other losses share the inputs: do not change them in place.

        Args:
            student: The student's outputs, only of ``student_layers``.
            target: What ``teacher_target`` returned for the same images.
            batch: Images, labels and rows.
        """


def require_teacher(loss: Loss, teacher: Shapes | None) -> Shapes:
    """Return the teacher's shapes.

    Raises:
        UserError: There is no teacher.
    """
    if teacher is None:
        raise UserError(f"{type(loss).__name__} learns from a teacher; use it with the task Distill.")
    return teacher


def to_float32(values: Tensor) -> Tensor:
    """Return half precision as float32, and any other precision as it is."""
    return values.float() if values.dtype.itemsize < 4 else values
