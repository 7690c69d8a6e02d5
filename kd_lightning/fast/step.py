"""One optimizer step from rows of the data set: what the fast path repeats, and what a CUDA graph captures."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor
from torch.optim import Optimizer

from kd_lightning.data.loader import Batch, BatchLoader
from kd_lightning.errors import UserError
from kd_lightning.tasks.step import Step

if TYPE_CHECKING:
    from kd_lightning.tasks import Task


class OptimizerStep:
    """Run the work of Lightning's automatic optimization for a group of batches, without all that surrounds it.

    Args:
        task: Has objective and parameters; its trainer has precision, clipping, accumulation and images.
    """

    def __init__(self, task: "Task") -> None:
        self.task = task
        self.trainer = task.trainer
        loader = self.trainer.train_dataloader
        assert isinstance(loader, BatchLoader)
        self.loader = loader
        self.optimizer: Optimizer = self.trainer.optimizers[0]

    @property
    def group_size(self) -> int:
        """Batches of a step; a callback may change it between epochs."""
        return self.trainer.accumulate_grad_batches

    def __call__(self, batches: Sequence[Tensor]) -> list[Step]:
        """Train on a group of batches: as many as gradients are accumulated over.

        Args:
            batches: Rows of the data set, ``(B,)`` each.
        """
        steps = [self._backward(rows, is_first=place == 0) for place, rows in enumerate(batches)]
        clip = self.trainer.gradient_clip_val
        self.task.configure_gradient_clipping(self.optimizer, clip, self.trainer.gradient_clip_algorithm)
        self.optimizer.step()
        return steps

    def _backward(self, rows: Tensor, *, is_first: bool) -> Step:
        """Add a batch's gradients to the existing ones; the first batch starts from zero."""
        raw = self.loader.gather(rows).to(self.task.device, non_blocking=True)
        batch = self.task.data.on_after_batch_transfer(raw, 0)
        with self.trainer.precision_plugin.train_step_context():
            step = self._step(batch)
        if is_first:
            self.optimizer.zero_grad()
        self.task.backward(step.loss if self.group_size == 1 else step.loss / self.group_size)
        return step.map(Tensor.detach)

    def _step(self, batch: Batch) -> Step:
        try:
            return self.task.step(batch)
        except MisconfigurationException as error:
            raise UserError(
                f"{type(self.task).__name__} has works_with_fast_path = True, but its step does what only "
                f"Lightning's own steps can do, such as self.log ({str(error).partition('.')[0]}); "
                "remove that mark or set --model.fast false."
            ) from error
