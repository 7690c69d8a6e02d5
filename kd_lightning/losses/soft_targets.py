"""Soft targets: the teacher's softened probabilities."""

from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import functional

from kd_lightning.losses.base import LogitLoss, Targets, in_single
from kd_lightning.losses.logits import require_temperature
from kd_lightning.networks.layers import LOGITS, Outputs

if TYPE_CHECKING:
    from kd_lightning.data.loader import Batch


def soft_target_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return ``T^2 KL(softmax(z_t / T), softmax(z_s / T))``, averaged over the batch.

    Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015, https://arxiv.org/abs/1503.02531).

    Args:
        student: Logits (B, num_classes).
        teacher: Logits (B, num_classes).
        temperature: T, above 0.

    Returns:
        A scalar, 0 or more.
    """
    own, other = (functional.log_softmax(in_single(logits) / temperature, dim=1) for logits in (student, teacher))
    return temperature**2 * functional.kl_div(own, other, reduction="batchmean", log_target=True)


class SoftTargets(LogitLoss):
    """The divergence of the student's softened probabilities from the teacher's: plain knowledge distillation.

    ``T^2 mean_b KL(softmax(z_t / T) || softmax(z_s / T))`` (Hinton et al., 2015, https://arxiv.org/abs/1503.02531). The
    factor keeps the gradient's size when T changes. It matches the whole distribution, is hard to beat, and the one to
    try first.

    With 0.9 beside labels at 0.1 and T = 4 it is the reference setting for 10 and for 100 classes. It works with two
    classes and a batch of one, has no parameters, and a remembered teacher keeps ``num_classes`` numbers an image.

    Args:
        temperature: T, above 0.
        weight: What the term is multiplied with in the sum.
        warm_up: Epochs in which the weight rises.

    Raises:
        UserError: ``temperature`` is not above 0.
    """

    works_with_fast_path = True
    short = "kd"

    def __init__(self, temperature: float = 4.0, weight: float = 0.9, warm_up: int = 0) -> None:
        super().__init__(weight, warm_up)
        self.temperature = require_temperature(self, temperature)

    def forward(self, student: Outputs, target: Targets, batch: "Batch") -> Tensor:
        """Return the mean over the batch, a scalar."""
        return soft_target_loss(student.logits, target[LOGITS], self.temperature)
