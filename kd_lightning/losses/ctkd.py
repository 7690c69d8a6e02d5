"""Curriculum temperature: soft targets at a trained temperature that makes them harder to learn."""

from math import cos, pi

import torch
from torch import Tensor, nn

from kd_lightning.errors import UserError
from kd_lightning.losses.base import to_float32
from kd_lightning.losses.logits import LogitLoss, divergences, log_probabilities, require_positive


class CTKD(LogitLoss):
    """Soft targets at a temperature that is trained against the student: from easy to hard.

    Li et al., "Curriculum Temperature for Knowledge Distillation" (AAAI 2023, https://arxiv.org/abs/2211.16231): ``T^2
    mean_b KL(softmax(z_t / T) || softmax(z_s / T))`` with ``T = lowest + span sigmoid(a)``. The optimizer trains a,
    which begins at 1, with its gradient reversed, so that it raises the loss that the student lowers. The reversed
    gradient's factor rises along a cosine from 0 to 1 in the first ``curriculum`` epochs. Take it where the temperature
    is not known and there is no time to try several.

    0.9 beside labels at 0.1, T between 1 and 21 and a curriculum of 10 epochs is the authors' setting for 100 classes;
    T begins at 15.6. It is their global temperature; they publish that of each image as instructions only. It trains
    one number, which is dropped after training; the teacher cache holds ``num_classes`` numbers per image. It works
    with a batch of one, mixed images and two classes, which cannot be standardized.

    Args:
        lowest: The lowest temperature, above 0.
        span: The highest temperature minus the lowest one, above 0.
        curriculum: Epochs until the reversed gradient counts in full; 0 lets it from the start.
        standardize: As in ``SoftTargets``.

    Raises:
        UserError: An option is out of its range, or two classes are to be standardized.
    """

    short = "ctkd"
    reversal: Tensor

    def __init__(
        self,
        lowest: float = 1.0,
        span: float = 20.0,
        curriculum: int = 10,
        standardize: bool = False,
        weight: float = 0.9,
        warm_up: int = 0,
    ) -> None:
        self.curriculum = curriculum
        super().__init__(standardize, weight, warm_up)
        if curriculum < 0:
            raise UserError(f"curriculum of CTKD is {curriculum}, but it must be 0 epochs or more.")
        self.lowest = require_positive(self, "lowest", lowest)
        self.span = require_positive(self, "span", span)
        self.raw = nn.Parameter(torch.ones(()))
        self.register_buffer("reversal", torch.zeros(()), persistent=False)
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Set also the factor of the reversed gradient."""
        super().set_epoch(epoch)
        if "reversal" in self._buffers:  # not yet in the constructor of Loss
            share = min(1.0, (epoch + 1) / self.curriculum) if self.curriculum else 1.0
            self.reversal.fill_((1 - cos(pi * share)) / 2)

    def current_temperature(self) -> Tensor:
        """Return T, a scalar, whose gradient is reversed."""
        raw = to_float32(self.raw)
        fixed = raw.detach()
        return self.lowest + self.span * (fixed - self.reversal * (raw - fixed)).sigmoid()

    def compare(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over the batch, a scalar."""
        own, other = to_float32(student), to_float32(teacher)
        temperature = self.current_temperature().to(own)
        logs = (log_probabilities(logits / temperature) for logits in (own, other))
        return temperature**2 * divergences(*logs).mean()
