"""Regression of the teacher's feature map."""

from torch import Tensor
from torch.nn import functional

from kd_lightning.losses.base import to_float32
from kd_lightning.losses.layers import LayerLoss, same_shape
from kd_lightning.losses.projectors import Projection


def feature_map_loss(regressed_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Return the mean squared error between two feature maps of the same shape, as PyTorch's tutorial does.

    Args:
        regressed_map: The student's map after the projector, (B, C, H, W).
        teacher_map: (B, C, H, W).

    Returns:
        A scalar, 0 or more.

    Raises:
        ValueError: The shapes differ.
    """
    same_shape(regressed_map, teacher_map)
    return functional.mse_loss(to_float32(regressed_map), to_float32(teacher_map))


class FeatureRegression(LayerLoss):
    """The mean squared error between the teacher's map and what a trained projector makes of the student's.

    FitNets (Romero et al., ICLR 2015, https://arxiv.org/abs/1412.6550): ``mean (p(f_s) - f_t)^2``. The student's map
    has to match the teacher's at each position, in direction and magnitude. That is the strongest constraint of all
    losses between layers: a student that is too small for it may lose accuracy. The projector is dropped after
    training.

    RepDistiller and mdistiller take a weight of 100 for 100 classes, with the projector ``ConvReg``. For LightNN on
    CIFAR-10, 10 measured best (0.75 points over no teacher, in two runs), the reference notebook's 0.25 brought 0.2,
    and BatchNorm and ReLU in the projector brought no more. A 3x3 projector has ``9 C C' + C'`` parameters, a 1x1 one
    ``C C' + C'``; the teacher cache holds the whole map. It is defined for a batch of one and for constant maps.

    Args:
        projector: ``1x1`` or ``3x3``: a convolution; ``3x3 normalized``: one with BatchNorm and ReLU after it, for a
            teacher's layer after a ReLU; ``ConvReg``: that of RepDistiller and mdistiller, 1x1 with BatchNorm and ReLU,
            or 3x3 with stride 2, or transposed, where the student's map is twice or half as large; ``none`` for maps
            with equal channels.

    Raises:
        UserError: The maps differ in height or width, and the projector does not change them.
    """

    short = "fitnet"

    def __init__(
        self,
        student: str,
        teacher: str | None = None,
        projector: Projection = "3x3",
        weight: float = 10.0,
        warm_up: int = 0,
    ) -> None:
        super().__init__(student, teacher, weight, warm_up)
        self.projection = projector

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the mean squared error over batch and map, a scalar."""
        return feature_map_loss(student, teacher)
