"""Normalized knowledge distillation: cross-entropies with the teacher's probabilities of label and other classes."""

from typing import Literal

from torch import Tensor

from kd_lightning.losses.logits import LogitLoss, log_probabilities, require_positive, without_label


def nkd_loss(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float, gamma: float) -> Tensor:
    """Return ``-p_t,y log p_s,y - gamma T^2 sum_c q_t,c log q_s,c``, averaged over the batch.

    Yang et al., "From Knowledge Distillation to Self-Knowledge Distillation: A Unified Approach with Normalized Loss
    and Customized Soft Labels", ICCV 2023, https://arxiv.org/abs/2303.13005: p are the probabilities, y is the label,
    and q are the softened probabilities of the other classes among themselves.

    Args:
        student: Logits (B, num_classes).
        teacher: Logits (B, num_classes).
        labels: Class indices y, (B,).
        temperature: T of the other classes' part, above 0.
        gamma: Factor of the other classes' part.

    Returns:
        A scalar above 0: cross-entropies, with nothing subtracted.
    """
    networks = student, teacher
    own, other = (log_probabilities(logits).gather(1, labels.unsqueeze(1)) for logits in networks)  # (B, 1)
    own_rest, other_rest = (log_probabilities(without_label(logits, labels), temperature) for logits in networks)
    parts = (other.exp() * own).sum(1) + gamma * temperature**2 * (other_rest.exp() * own_rest).sum(1)  # (B,)
    return -parts.mean()


class NKD(LogitLoss):
    """The cross-entropy with the teacher's probability of the label, and that of the other classes among themselves.

    ``mean_b (-p_t,y log p_s,y - gamma T^2 sum_c q_t,c log q_s,c)`` (Yang et al., ICCV 2023,
    https://arxiv.org/abs/2303.13005), p unsoftened, q softened by T and without the label's class. At the label, images
    on which the teacher is not confident count less; at the other classes all images count alike. It is close to
    ``DKD``.

    gamma = 3.5, T = 3, weight 1 beside labels at 1 is the reference setting for 100 classes of small images (gamma =
    1.5, T = 1 for ImageNet). The fewer the classes, the larger the gradient of the second part. So the default weight
    is that of ``DKD``, ``sqrt((C - 1) / 99)``, 1 at most: 0.3 for 10, where it measured 1.3 points better than 1.

    It has no parameters. The teacher cache holds ``num_classes`` numbers per image. It needs one label per image: Mixup
    and CutMix are refused before training. It is never 0, even for the teacher's own logits. For two classes the second
    part is 0.

    Args:
        temperature: T, above 0.
        gamma: Factor of the other classes' part.
        standardize: As in ``SoftTargets``; both parts see standardized logits.
        weight: Factor of the term in the total loss; ``auto`` is 1 from 100 classes on and 0.3 for 10.

    Raises:
        UserError: ``temperature`` is not above 0, or two classes are to be standardized.
    """

    short = "nkd"
    needs_labels = needs_hard_labels = True

    def __init__(
        self,
        temperature: float = 3.0,
        gamma: float = 3.5,
        standardize: bool = False,
        weight: float | Literal["auto"] = "auto",
        warm_up: int = 0,
    ) -> None:
        super().__init__(standardize, 1.0 if weight == "auto" else weight, warm_up)
        self.is_auto = weight == "auto"
        self.temperature = require_positive(self, "temperature", temperature)
        self.gamma = gamma

    def compare(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over the batch, a scalar."""
        return nkd_loss(student, teacher, labels, self.temperature, self.gamma)
