"""The output of a task's step for a batch, with which the metrics are updated."""

from typing import NamedTuple

from torch import Tensor


class StepOutput(NamedTuple):
    """The output of a model step for a batch.

    Attributes:
        logits: The trained network's logits, (B, num_classes).
        losses: The losses by name, scalars without their weights.
        teacher_logits: The teacher's logits, (B, num_classes), where there is a teacher.
    """

    logits: Tensor
    losses: dict[str, Tensor]
    teacher_logits: Tensor | None = None


class LabelledOutput(NamedTuple):
    """A step's output with its weighted loss and the labels: of one batch, or of N equally large ones together.

    Attributes:
        loss: The minimized loss, a scalar; of N batches (N,), and so are its terms.
        output: The step's output.
        labels: Class indices (B,), or class probabilities (B, num_classes); of N batches N * B of them.
    """

    loss: Tensor
    output: StepOutput
    labels: Tensor

    def detached(self) -> "LabelledOutput":
        """Return the same values, detached from the graph of gradients."""
        logits, losses, teacher_logits = self.output
        values = {name: loss.detach() for name, loss in losses.items()}
        return LabelledOutput(self.loss.detach(), StepOutput(logits.detach(), values, teacher_logits), self.labels)

    def tensors(self) -> list[Tensor]:
        """Return all tensors, in the order that ``stacked`` expects."""
        logits, losses, teacher_logits = self.output
        teachers = [] if teacher_logits is None else [teacher_logits]
        return [self.loss, self.labels, logits, *losses.values(), *teachers]

    def stacked(self, tensors: list[Tensor]) -> "LabelledOutput":
        """Return one output for N outputs of this one's structure.

        Args:
            tensors: Those of ``tensors``, of all N along a new first dimension.
        """
        loss, labels, logits, *rest = tensors
        losses = dict(zip(self.output.losses, rest, strict=False))
        # (N, B, ...) -> (N * B, ...)
        teacher_logits = None if self.output.teacher_logits is None else rest[-1].flatten(0, 1)
        return LabelledOutput(loss, StepOutput(logits.flatten(0, 1), losses, teacher_logits), labels.flatten(0, 1))
