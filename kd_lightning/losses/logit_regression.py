"""Regression of the teacher's logits."""

from torch import Tensor
from torch.nn import functional

from kd_lightning.losses.base import to_float32
from kd_lightning.losses.logits import LogitLoss


def logit_regression_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean of ``(z_s - z_t)^2`` over batch and classes.

    Ba and Caruana, "Do Deep Nets Really Need to be Deep?", NeurIPS 2014, https://arxiv.org/abs/1312.6184.

    Args:
        student: Logits (B, num_classes).
        teacher: Logits (B, num_classes).

    Returns:
        A scalar, 0 or more.
    """
    return functional.mse_loss(to_float32(student), to_float32(teacher))


class LogitRegression(LogitLoss):
    """The mean squared error between the logits of student and teacher.

    ``mean over b and c of (z_s - z_t)^2`` (Ba and Caruana, NeurIPS 2014, https://arxiv.org/abs/1312.6184; compared with
    soft targets by Kim et al., IJCAI 2021, https://arxiv.org/abs/2105.08919). It has no temperature to choose, and
    matches the logits of unlikely classes as much as the others, and their mean too, which softmax ignores. It helps
    where the student is large enough for that.

    It is a mean over the classes. At a high temperature and for logits of mean 0, ``SoftTargets`` becomes half of it
    (section 2.1 of https://arxiv.org/abs/1503.02531). So the weight is 0.5 for 10 and for 100 classes: as large as soft
    targets at weight 1. With ``standardize`` it is twice one minus the correlation of the logits, times (C - 1) / C:
    take 4.5, half of the 9 of soft targets.

    It has no parameters. The teacher cache holds ``num_classes`` numbers per image. It works with a batch of one, mixed
    images and two classes.

    Raises:
        UserError: Two classes are to be standardized.
    """

    short = "mse"

    def __init__(self, standardize: bool = False, weight: float = 0.5, warm_up: int = 0) -> None:
        super().__init__(standardize, weight, warm_up)

    def compare(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over batch and classes, a scalar."""
        return logit_regression_loss(student, teacher)
