"""What a task makes of a batch, and what its metrics count of it."""

from typing import NamedTuple

from torch import Tensor


class Outcome(NamedTuple):
    """What a task makes of a batch.

    Attributes:
        logits: The trained network's logits, (B, num_classes).
        terms: Loss terms by name, unweighted scalars.
        teacher_logits: The teacher's logits, (B, num_classes), where there is a teacher.
    """

    logits: Tensor
    terms: dict[str, Tensor]
    teacher_logits: Tensor | None = None


class Result(NamedTuple):
    """An outcome with its loss and the labels; of several equally large batches, their images and their losses.

    Attributes:
        loss: What is minimized, a scalar; of N batches (N,), and so are the terms.
        outcome: What it is made of.
        labels: Class indices (B,), or class probabilities (B, num_classes).
    """

    loss: Tensor
    outcome: Outcome
    labels: Tensor

    def detached(self) -> "Result":
        """Return the values alone, without the way to their gradients."""
        logits, terms, teacher_logits = self.outcome
        values = {name: term.detach() for name, term in terms.items()}
        return Result(self.loss.detach(), Outcome(logits.detach(), values, teacher_logits), self.labels)

    def tensors(self) -> list[Tensor]:
        """Return all tensors, in an order that ``stacked`` knows."""
        logits, terms, teacher_logits = self.outcome
        return [self.loss, self.labels, logits, *terms.values(), *([] if teacher_logits is None else [teacher_logits])]

    def stacked(self, tensors: list[Tensor]) -> "Result":
        """Return one result for many of this one's form.

        Args:
            tensors: Those of ``tensors``, of all results along a new first dimension.
        """
        loss, labels, logits, *rest = tensors
        terms = dict(zip(self.outcome.terms, rest, strict=False))
        teacher_logits = None if self.outcome.teacher_logits is None else rest[-1].flatten(0, 1)
        return Result(loss, Outcome(logits.flatten(0, 1), terms, teacher_logits), labels.flatten(0, 1))
