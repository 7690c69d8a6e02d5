"""Cross-entropy with the labels."""

from torch import Tensor
from torch.nn import functional

from kd_lightning.data.loader import Batch
from kd_lightning.errors import UserError
from kd_lightning.losses.base import Loss, Targets, to_float32
from kd_lightning.networks.layers import Outputs


class CrossEntropy(Loss):
    """The cross-entropy between the student's logits and the labels: what a network without a teacher learns from.

    ``-mean_b sum_c q[b, c] log softmax(z[b])[c]``, where q is 1 at the label, or the shares of mixed labels (Mixup,
    CutMix), or with label smoothing s (Szegedy et al., CVPR 2016, https://arxiv.org/abs/1512.00567) the share s / C
    in every class and the rest at the label.

    For 10 and for 100 classes its weight is 1, as the only loss and beside most others, whose default weights assume
    that; beside ``SoftTargets``, which carry more information, it is 0.1. Beside a teacher's logits it needs no
    smoothing. It works with any number of classes and a batch of one, at negligible cost.

    Args:
        label_smoothing: The share s in [0, 1).

    Raises:
        UserError: ``label_smoothing`` is out of range.
    """

    short = "ce"
    needs_labels = True

    def __init__(self, label_smoothing: float = 0.0, weight: float = 1.0, warm_up: int = 0) -> None:
        super().__init__(weight, warm_up)
        if not 0 <= label_smoothing < 1:
            raise UserError(f"label_smoothing of CrossEntropy is {label_smoothing}, but it must be in [0, 1).")
        self.label_smoothing = label_smoothing

    def forward(self, student: Outputs, target: Targets, batch: Batch) -> Tensor:
        """Return the mean over the batch, computed in float32 at least."""
        return functional.cross_entropy(to_float32(student.logits), batch.labels, label_smoothing=self.label_smoothing)
