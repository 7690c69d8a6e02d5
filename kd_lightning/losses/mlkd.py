"""Multi-level logit distillation: probabilities of images, similarities of images and of classes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from kd_lightning.data.loader import Batch
from kd_lightning.errors import UserError
from kd_lightning.losses.base import Targets
from kd_lightning.losses.logits import LogitLoss, log_probabilities, require_positive
from kd_lightning.losses.soft_targets import soft_target_loss
from kd_lightning.networks.layers import LOGITS, Outputs

IMAGES, CLASSES = 64, 100
"""The authors' batch and number of classes, for which the factors are."""


def relations_loss(
    student: Tensor, teacher: Tensor, temperature: float, batch_factor: float, class_factor: float
) -> Tensor:
    """Return ``b |P_t P_t^T - P_s P_s^T|^2 / B + c |P_t^T P_t - P_s^T P_s|^2 / C``.

    Jin, Wang and Lin, "Multi-Level Logit Distillation", CVPR 2023: P are the softened probabilities, (B, C).

    Args:
        student: Logits (B, num_classes).
        teacher: Logits (B, num_classes).
        temperature: T, above 0.
        batch_factor: Factor b of the part over pairs of images.
        class_factor: Factor c of the part over pairs of classes.

    Returns:
        A scalar, 0 or more.
    """
    own, other = (log_probabilities(logits, temperature).exp() for logits in (student, teacher))
    with torch.autocast(own.device.type, enabled=False):
        of_images = (own @ own.T - other @ other.T).square().sum() / len(own)  # (B, B)
        of_classes = (own.T @ own - other.T @ other).square().sum() / own.shape[1]  # (C, C)
    return batch_factor * of_images + class_factor * of_classes


class MLKD(LogitLoss):
    """Soft targets at several temperatures, with the similarities of a batch's images and of the classes.

    The sum over temperatures T of ``T^2 mean_b KL(p_t || p_s) + b |P_t P_t^T - P_s P_s^T|^2 / B + c |P_t^T P_t - P_s^T
    P_s|^2 / C`` (Jin, Wang and Lin, "Multi-Level Logit Distillation", CVPR 2023), P the softened probabilities of a
    batch (B, C) and p its rows. The second part compares which images of the batch get like predictions, the third
    which classes are predicted together.

    A weight of 0.9 beside labels at 0.1 with T = 2, 3, 4, 5, 6 is the authors' setting for 100 classes. They train on a
    weak and a strong view of each image in one step, twice the cost, for 480 epochs, and multiply what they compute of
    the weak view by the share of images, or of classes, that are no surer than the median, about 1/2. Here each image
    has the one view that its augmentations draw, and no such factor. For the authors' logit standardization (Sun et
    al., CVPR 2024, https://arxiv.org/abs/2403.01427) set ``standardize``: their weight is 9, with T = 2 in the place of
    4, so that 2 counts twice.

    It has no parameters. The teacher cache holds ``num_classes`` numbers per image. It works with mixed images and a
    batch of one. The second part grows with the batch B, and the third with ``(B / C)^2``: 256 images of 10 classes
    make it 1,600 times as large as the authors' 64 images of 100 classes. So b is multiplied by ``64 / B`` and c by
    ``(64 / B * C / 100)^2``, which are 1 for theirs.

    Args:
        temperatures: The temperatures, above 0; one that is named twice counts twice.
        batch_factor: Factor b of the part over pairs of images, for 64 of them.
        class_factor: Factor c of the part over pairs of classes, for 64 images of 100 classes.
        standardize: Whether the logits of the first part are standardized, as in ``SoftTargets``; the other parts keep
            the logits as they are, as in the authors' code.

    Raises:
        UserError: There is no temperature, one is not above 0, or two classes are to be standardized.
    """

    short = "mlkd"

    def __init__(
        self,
        temperatures: Sequence[float] = (2.0, 3.0, 4.0, 5.0, 6.0),
        batch_factor: float = 1.0,
        class_factor: float = 1.0,
        standardize: bool = False,
        weight: float = 0.9,
        warm_up: int = 0,
    ) -> None:
        super().__init__(standardize, weight, warm_up)
        if not temperatures:
            raise UserError("temperatures of MLKD is empty; name one or more, such as [2, 3, 4, 5, 6].")
        self.temperatures = tuple(require_positive(self, "a temperature", each) for each in temperatures)
        self.batch_factor, self.class_factor = batch_factor, class_factor

    def forward(self, student: Outputs, target: Targets, batch: Batch) -> Tensor:
        """Return the sum of all parts over the temperatures, a scalar."""
        logits = student.logits, target[LOGITS]
        images, classes = student.logits.shape
        share = IMAGES / images
        factors = self.batch_factor * share, self.class_factor * (share * classes / CLASSES) ** 2
        parts = [relations_loss(*logits, each, *factors) for each in self.temperatures]
        return super().forward(student, target, batch) + torch.stack(parts).sum()

    def compare(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Return the sum over the temperatures of soft targets, a scalar."""
        return torch.stack([soft_target_loss(student, teacher, each) for each in self.temperatures]).sum()
