"""Transformed teacher matching: a softened teacher, and a student that is not softened."""

from torch import Tensor

from kd_lightning.losses.logits import LogitLoss, divergences, log_probabilities, require_positive


def ttm_loss(student: Tensor, teacher: Tensor, gamma: float) -> Tensor:
    """Return ``KL(p_t^gamma / sum_c p_t^gamma, p_s)``, averaged over the batch.

    Zheng and Yang, "Knowledge Distillation Based on Transformed Teacher Matching", ICLR 2024,
    https://arxiv.org/abs/2402.11148: the teacher has the temperature 1 / gamma and the student 1.

    Args:
        student: Logits (B, num_classes).
        teacher: Logits (B, num_classes).
        gamma: Exponent of the teacher's probabilities, above 0.

    Returns:
        A scalar, 0 or more.
    """
    return divergences(log_probabilities(student), power_transform(teacher, gamma)[0]).mean()


def wttm_loss(student: Tensor, teacher: Tensor, gamma: float) -> Tensor:
    """Return ``U KL(p_t^gamma / U, p_s)``, ``U = sum_c p_t^gamma``, averaged over the batch.

    The weighted form of the same paper: images on which the teacher is less confident count more.

    Args:
        student: Logits (B, num_classes).
        teacher: Logits (B, num_classes).
        gamma: Exponent of the teacher's probabilities, above 0.

    Returns:
        A scalar, 0 or more.
    """
    transformed, sums = power_transform(teacher, gamma)
    return (sums * divergences(log_probabilities(student), transformed)).mean()


def power_transform(logits: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """Return the logarithms of ``p^gamma / sum_c p^gamma``, (B, C), and the sums, (B,)."""
    powers = gamma * log_probabilities(logits)
    sums = powers.logsumexp(1, keepdim=True)
    return powers - sums, sums.exp().squeeze(1)


class TTM(LogitLoss):
    """Transformed teacher matching: the teacher's probabilities are softened, and the student's are not.

    ``mean_b KL(p_t^gamma / sum_c p_t^gamma || p_s)`` (Zheng and Yang, ICLR 2024, https://arxiv.org/abs/2402.11148),
    without the factor T^2: soft targets with the temperature 1 / gamma only on the teacher's side. That keeps the
    student from being overconfident, as a penalty on low entropy would. It helps where the student overfits.

    gamma = 0.1, weight 45 beside labels at 1 is the reference setting for 100 classes. It stays for 10, where nothing
    else is published: the gradient is a difference of probabilities, some 50 times as large as the labels' for either
    number.

    It has no parameters. The teacher cache holds ``num_classes`` numbers per image. It works with a batch of one, mixed
    images and two classes.

    Args:
        gamma: Exponent of the teacher's probabilities, above 0; below 1 it softens them.
        standardize: As in ``SoftTargets``, with 1 / gamma as the temperature.

    Raises:
        UserError: ``gamma`` is not above 0, or two classes are to be standardized.
    """

    short = "ttm"

    def __init__(self, gamma: float = 0.1, standardize: bool = False, weight: float = 45.0, warm_up: int = 0) -> None:
        super().__init__(standardize, weight, warm_up)
        self.gamma = require_positive(self, "gamma", gamma)

    def compare(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over the batch, a scalar."""
        return ttm_loss(student, teacher, self.gamma)


class WTTM(LogitLoss):
    """Transformed teacher matching in which images count more where the teacher is less confident.

    ``mean_b U KL(p_t^gamma / U || p_s)``, ``U = sum_c p_t^gamma`` (Zheng and Yang, ICLR 2024,
    https://arxiv.org/abs/2402.11148). ``TTM`` times U, which is 1 where the teacher is certain and C^(1 - gamma) where
    it is uniform. It helps where ``TTM`` does, and where many images are ambiguous.

    gamma = 0.2, weight 4 beside labels at 1 is the reference setting for 100 classes. U is some six times smaller for
    10 classes, so the gradient at 4 is a fifth as large there. It stays the default: 22, with the gradient that 4 has
    for 100 classes, measured no better for 10.

    It has no parameters. The teacher cache holds ``num_classes`` numbers per image. It works with a batch of one, mixed
    images and two classes.

    Args:
        gamma: Exponent of the teacher's probabilities, above 0; below 1 it softens them.

    Raises:
        UserError: ``gamma`` is not above 0, or two classes are to be standardized.
    """

    short = "wttm"

    def __init__(self, gamma: float = 0.2, standardize: bool = False, weight: float = 4.0, warm_up: int = 0) -> None:
        super().__init__(standardize, weight, warm_up)
        self.gamma = require_positive(self, "gamma", gamma)

    def compare(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over the batch, a scalar."""
        return wttm_loss(student, teacher, self.gamma)
