"""Hard targets: the class that the teacher chooses."""

from torch import Tensor
from torch.nn import functional

from kd_lightning.losses.base import to_float32
from kd_lightning.losses.logits import LogitLoss


def hard_target_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the cross-entropy with the teacher's most probable class, averaged over the batch.

    Touvron et al., "Training data-efficient image transformers & distillation through attention" (ICML 2021,
    https://arxiv.org/abs/2012.12877).

    Args:
        student: Logits (B, num_classes).
        teacher: Logits (B, num_classes).

    Returns:
        A scalar, 0 or more.
    """
    return functional.cross_entropy(to_float32(student), teacher.argmax(1))


class HardTargets(LogitLoss):
    """The cross-entropy with the class that the teacher chooses: DeiT's hard distillation.

    ``-mean_b log softmax(z_s)[argmax z_t]`` (Touvron et al., ICML 2021, https://arxiv.org/abs/2012.12877). Of the
    teacher only its choice counts, for the view that the student sees. DeiT found it better than soft targets for
    transformers, most of all with a distillation token: ``ViT`` has one.

    Its weight is that of the labels, for any number of classes: DeiT's loss is half of each. It has no parameters and
    no temperature. The teacher cache holds ``num_classes`` numbers per image, once for all losses on logits. It works
    with a batch of one and with mixed images, whose target is the teacher's choice.
    """

    short = "hard"

    def __init__(self, weight: float = 1.0, warm_up: int = 0) -> None:
        super().__init__(False, weight, warm_up)

    def compare(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over the batch, a scalar."""
        return hard_target_loss(student, teacher)
