"""The norm of each loss's gradient, logged beside the losses."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from kd_lightning.errors import UserError
from kd_lightning.losses.base import to_float32

if TYPE_CHECKING:
    from kd_lightning.tasks import Task


class LogGradientNorms(Callback):
    """Log the norm of each loss's gradient by the loss's name, which shows which of them moves the network.

    ``grad_norm/kd`` is the Euclidean norm of the gradient of the loss ``kd``, times the weight that it has in this
    epoch, with respect to all trained parameters of the network; a projector's do not count. ``grad_norm/loss`` is that
    of the sum, before it is clipped. It is the gradient of the step itself, taken from the graph that the step has
    made, so training is the same to the last bit. A measured step costs one more backward pass for each loss.

    Of gradients that are accumulated over several batches the first one's is measured; of several processes the mean.

    Args:
        every_n_steps: Optimizer steps from one that is measured to the next, 1 or more; the first one is measured.

    Raises:
        UserError: ``every_n_steps`` is out of range.
    """

    def __init__(self, every_n_steps: int = 50) -> None:
        if every_n_steps < 1:
            raise UserError(f"every_n_steps of LogGradientNorms is {every_n_steps}, but it must be 1 or more.")
        self.every_n_steps = every_n_steps
        self._measured_step = -1
        self._losses: dict[str, Tensor] = {}
        self._hooks: list[RemovableHandle] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse networks that torch.compile translates: their graph allows only one backward pass."""
        task = cast("Task", pl_module)
        if task.compiled:
            raise UserError(
                "LogGradientNorms runs one backward pass a loss, and a graph of torch.compile allows only one "
                "in all; set --model.compiled false, or leave the callback out."
            )

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Keep the losses of a batch that is to be measured, with their graphs."""
        step = trainer.global_step
        if step % self.every_n_steps or step == self._measured_step:
            return
        task = cast("Task", pl_module)
        self._measured_step = step
        self._hooks = [loss.register_forward_hook(self._keep(name)) for name, loss in task.losses.named.items()]

    def _keep(self, name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def keep(loss: nn.Module, seen: Any, value: Tensor) -> None:
            self._losses[name] = value

        return keep

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Measure the losses that were kept, and log their norms."""
        losses = self._pop_losses()
        if not losses:
            return
        task = cast("Task", pl_module)
        norms = self._norms(trainer, task, losses)
        logged = {f"grad_norm/{name}": norm for name, norm in norms.items()}
        trainer.callback_metrics.update({name: torch.tensor(norm) for name, norm in logged.items()})
        step = trainer.fit_loop.epoch_loop._batches_that_stepped  # where Lightning shows the losses of this step
        for logger in trainer.loggers:
            logger.log_metrics(logged, step)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Drop the losses of a step that failed."""
        self._pop_losses()

    def _pop_losses(self) -> dict[str, Tensor]:
        """Return the losses that were kept, and keep no more."""
        for hook in self._hooks:
            hook.remove()
        losses, self._losses, self._hooks = self._losses, {}, []
        return losses

    def _norms(self, trainer: Trainer, task: "Task", losses: dict[str, Tensor]) -> dict[str, float]:
        """Return the norm of each loss's gradient and of their sum's, which is called ``loss``."""
        parameters = [values for values in task.network.parameters() if values.requires_grad]
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        scale = 1.0 if scaler is None else scaler.get_scale()  # half precision would lose small gradients
        total, norms = torch.zeros(()), dict[str, Tensor]()
        for name, value in losses.items():
            gradient = gradient_of(task.losses.named[name].weight * value * scale, parameters) / scale
            gradient = trainer.strategy.reduce(gradient, reduce_op="mean")
            norms[name] = gradient.norm()
            total = gradient + total.to(gradient)
        norms["loss"] = total.norm()
        return dict(zip(norms, torch.stack([*norms.values()]).tolist(), strict=True))


def gradient_of(value: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
    """Return the gradient of a scalar with respect to parameters, all in one (N,); nothing is added to theirs.

    Those of half precision are returned in single precision.
    """
    if not value.requires_grad:
        return torch.zeros(sum(values.numel() for values in parameters), device=value.device)
    parts = torch.autograd.grad(value, parameters, retain_graph=True, materialize_grads=True)
    return torch.cat([to_float32(part).flatten() for part in parts])
