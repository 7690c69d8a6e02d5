"""Checks of a loss: what it returns, and that it changes nothing that others see."""

from collections.abc import Iterator, Mapping

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from kd_lightning.data.loader import Batch
from kd_lightning.errors import UserError
from kd_lightning.losses import Loss, Targets
from kd_lightning.networks.layers import Outputs
from kd_lightning.wording import counted


def require_scalar(name: str, loss: Loss, value: object) -> None:
    """Refuse a value that cannot be a term of the minimized sum; a term of weight 0 needs no gradient.

    Raises:
        UserError: It is not a scalar tensor, or has no gradient where others have one.
    """
    if not isinstance(value, Tensor):
        found, fix = f"a {type(value).__name__}, which has no gradient", "return a tensor, without `.item()`"
    elif value.ndim:
        found, fix = f"a tensor of shape {tuple(value.shape)}", "return its mean, as by `.mean()`"
    elif torch.is_grad_enabled() and not value.requires_grad and loss.full_weight:
        found, fix = "a value without a gradient", "compute it from what is trained, or give it a weight of 0"
    else:
        return
    raise UserError(f"the loss '{name}' ({type(loss).__name__}) gives {found}, but must give a scalar tensor; {fix}.")


def require_gradients(task: LightningModule) -> None:
    """Refuse parameters that a backward pass has not reached, where several processes wait for all gradients.

    Raises:
        UserError: There are some, and the strategy does not allow them.
    """
    model = task.trainer.strategy.model
    if not isinstance(model, DistributedDataParallel) or model.find_unused_parameters or model.static_graph:
        return
    unused = [name for name, values in task.named_parameters() if values.requires_grad and values.grad is None]
    if unused:
        raise UserError(
            f"no loss reaches {unused[0]} ({counted(len(unused), 'tensor')} in all), and processes that train together "
            "wait for its gradient; add --trainer.strategy ddp_find_unused_parameters_true."
        )


class Shared:
    """The tensors that all losses of a step read and none may write to.

    Args:
        student: The student's outputs.
        targets: What each loss needs of the teacher.
        batch: Images, labels and rows.
    """

    def __init__(self, student: Outputs, targets: Mapping[str, Targets], batch: Batch) -> None:
        self._tensors = dict(_named(student, targets, batch)) if torch.is_grad_enabled() else {}
        self._writes = self._counts()

    def _counts(self) -> dict[str, int]:
        """Return how often each tensor has been written to."""
        return {what: tensor._version for what, tensor in self._tensors.items()}

    def require_unchanged(self, name: str) -> None:
        """Raise a ``UserError`` where a loss, which has just been computed, has changed something."""
        counts = self._counts()
        if counts != self._writes:
            what = next(what for what, count in counts.items() if count != self._writes[what])
            raise UserError(
                f"the loss '{name}' changes {what} in place, which other losses see, too; let it work on a copy, as "
                "by `.clone()`."
            )


def _named(student: Outputs, targets: Mapping[str, Targets], batch: Batch) -> Iterator[tuple[str, Tensor]]:
    yield "the student's logits", student.logits
    yield from (("the images", batch.images), ("the labels", batch.labels), ("the rows", batch.rows))
    yield from ((f"the student's '{layer}'", values) for layer, values in student.maps.items())
    for own in targets.values():
        yield from ((f"the teacher's '{key}'", values) for key, values in own.items())
