"""Sharpness-aware minimization: the gradient where the loss is highest nearby."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from torch import Tensor, nn
from torch.optim import SGD

from kd_lightning.callbacks.trainer_callbacks import callbacks_of
from kd_lightning.errors import UserError

if TYPE_CHECKING:
    from kd_lightning.tasks.task import Task


class SAM(SGD):
    """SGD with the gradient at the weights where the loss is highest nearby, which finds flatter minima.

    Foret et al., ICLR 2021, https://arxiv.org/abs/2010.01412. A step has two passes, so it costs twice as much. The
    second one, at weights moved by ``rho`` along the gradient, only gives gradients: metrics, BatchNorm's averages and
    what losses remember are of the first. Dropout draws anew in it.

    Args:
        params: Parameters of the network and the losses.
        lr: Learning rate.
        momentum: SGD's momentum.
        weight_decay: SGD's weight decay.
        nesterov: Whether the momentum is Nesterov's.
        rho: Length of the move to the second pass, above 0.

    Attributes:
        second_pass: Makes the context of the second pass.

    Raises:
        UserError: ``rho`` is out of range.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 0.1,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        nesterov: bool = False,
        rho: float = 0.05,
    ) -> None:
        if not rho > 0:
            raise UserError(f"--model.optimizer.rho is {rho}, but it must be above 0.")
        super().__init__(params, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)
        self.defaults["rho"] = rho
        for group in self.param_groups:
            group["rho"] = rho
        self.second_pass: Callable[[], AbstractContextManager[None]] = nullcontext

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Run the closure, which computes loss and gradients, twice, and update the weights; return the first loss."""
        if closure is None:
            raise UserError("SAM computes the gradients twice in a step, which this way of training cannot do.")
        with torch.enable_grad():
            loss = closure()
        with self._moved(), self.second_pass(), torch.enable_grad():
            closure()
        super().step()
        return loss

    @contextmanager
    @torch.no_grad()
    def _moved(self) -> Iterator[None]:
        """Move the weights along their gradients by ``rho`` in all, and back at the end, to the last bit."""
        trained = [values for group in self.param_groups for values in group["params"] if values.grad is not None]
        kept = [values.clone() for values in trained]
        length = torch.stack([_gradient(values).norm() for values in trained]).norm()
        for values in trained:
            values.add_(_gradient(values) * (self.param_groups[0]["rho"] / (length + 1e-12)))
        try:
            yield
        finally:
            for values, before in zip(trained, kept, strict=True):
                values.copy_(before)


def _gradient(values: Tensor) -> Tensor:
    assert values.grad is not None
    return values.grad


@contextmanager
def second_pass(task: "Task") -> Iterator[None]:
    """Keep metrics, BatchNorm's averages and the losses' memory as they are, whatever runs in the block."""
    kept = [(values, values.clone()) for values in chain(task.network.buffers(), task.losses.buffers())]
    task.metrics.paused = True
    try:
        yield
    finally:
        task.metrics.paused = False
        for values, before in kept:
            values.copy_(before)


def check_for_sam(trainer: Trainer) -> None:
    """Refuse what leaves no second pass.

    Raises:
        UserError: Gradients are accumulated or scaled.
    """
    if trainer.accumulate_grad_batches > 1 or callbacks_of(trainer, GradientAccumulationScheduler):
        raise UserError(
            "SAM computes the gradients of a batch twice, so it cannot accumulate those of several; "
            "set --trainer.accumulate_grad_batches 1 and a larger --data.batch_size."
        )
    if getattr(trainer.precision_plugin, "scaler", None) is not None:
        raise UserError(f"SAM does not work with precision {trainer.precision}; set --trainer.precision bf16-mixed.")
