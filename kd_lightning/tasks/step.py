"""The result of a task's step."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor


class Step(NamedTuple):
    """The result of a task's step for a batch, or for N equally large batches together.

    Attributes:
        logits: The trained network's logits of the labelled images, (B, num_classes); of N batches (N * B,
            num_classes).
        loss: The minimized loss, a scalar; of N batches (N,), and so are ``losses``.
        losses: The losses by name, without their weights.
        labels: Class indices (B,), or class probabilities (B, num_classes); of N batches N * B of them.
        teacher_logits: The teacher's logits, as ``logits``; ``None`` where no teacher has run.
    """

    logits: Tensor
    loss: Tensor
    losses: dict[str, Tensor]
    labels: Tensor
    teacher_logits: Tensor | None = None

    def map(self, change: Callable[[Tensor], Tensor]) -> "Step":
        """Return the step with all its tensors changed by a function."""
        losses = {name: change(value) for name, value in self.losses.items()}
        teacher_logits = None if self.teacher_logits is None else change(self.teacher_logits)
        return Step(change(self.logits), change(self.loss), losses, change(self.labels), teacher_logits)

    def tensors(self) -> list[Tensor]:
        """Return all its tensors."""
        teacher_logits = [] if self.teacher_logits is None else [self.teacher_logits]
        return [self.logits, self.loss, *self.losses.values(), self.labels, *teacher_logits]
