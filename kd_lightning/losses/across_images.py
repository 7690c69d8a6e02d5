"""Losses that compare the images of a batch with one another, where several processes share a batch."""

from typing import Any

import torch
from torch import Tensor

from kd_lightning.machine.processes import gathered, process_count, process_rank


class GatheredWithGradient(torch.autograd.Function):
    """The values of all processes, with the gradient of a loss that each process computes of all of them.

    That gradient is the same in each process, so each keeps its own rows. They count once for each process, because
    DDP then averages the gradients of the weights.
    """

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        """Return the values of all processes, (processes * B, ...)."""
        ctx.rows = len(values)
        return gathered(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Return the gradient of this process's own rows, (B, ...)."""
        first = ctx.rows * process_rank()
        return gradient[first : first + ctx.rows] * process_count()


class AcrossImages:
    """A loss between the images of a batch; its value depends on which images are in one batch.

    Args:
        gather: Whether several processes compare the images of all of them in a training step; each then computes the
            whole loss. Otherwise each compares its own ``batch_size`` images, as it always does in validation.
    """

    gather: bool
    training: bool

    def whole(self, values: Tensor) -> Tensor:
        """Return the values (B, ...) of all compared images: of this process, or of all, (processes * B, ...)."""
        if not (self.gather and self.training) or process_count() == 1:
            return values
        return GatheredWithGradient.apply(values)  # type: ignore[no-any-return]
