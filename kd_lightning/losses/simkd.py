"""SimKD: the student learns the features of the teacher's last layer, and keeps that layer."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from kd_lightning.errors import UserError
from kd_lightning.losses.base import to_float32
from kd_lightning.losses.layers import LayerLoss, Shape
from kd_lightning.networks.base import Network
from kd_lightning.networks.last_layer import last_linear
from kd_lightning.networks.simkd import SimKDStudent


class SimKD(LayerLoss):
    """The mean squared error of the teacher's last map, which a part of the student predicts; the last layer is shared.

    Chen et al., "Knowledge Distillation with the Reused Teacher Classifier" (CVPR 2022,
    https://arxiv.org/abs/2203.14001): ``mean (p(f_s) - f_t)^2``, where f are the last maps before pooling and p is a
    projector that stays in the student. The network is a ``SimKDStudent``, which ends in p, a mean over the map, and
    the teacher's last layer: before training, this loss copies that layer's weights and freezes them. That whole
    network is measured, saved and exported. It helps where some more parameters are allowed: it needs no labels, and
    there is nothing to tune.

    A weight of 1 without any other loss is the authors' setting for 100 classes and for ImageNet. The teacher cache
    holds the map. The larger map is averaged down to the smaller one (the authors average a larger student's map before
    the projector). It works with mixed images and a batch of one. The student cannot be re-parameterized, as its
    projector has BatchNorm.

    Args:
        student: The projector of the student, ``layer3.projector`` where the network's ``layer`` is ``layer3``.
        teacher: The teacher's last map before pooling; by default the name before ``.projector``.

    Raises:
        UserError: The network is not a ``SimKDStudent``, or the layers do not fit.
    """

    short = "simkd"
    want = "pooled"

    def __init__(self, student: str, teacher: str | None = None, weight: float = 1.0, warm_up: int = 0) -> None:
        super().__init__(student, student.removesuffix(".projector") if teacher is None else teacher, weight, warm_up)

    def connect(self, pairs: Sequence[tuple[Shape, Shape]]) -> None:
        """Check that the projector has the teacher's channels."""
        [((channels, *_), (target, *_))] = pairs
        if channels != target:
            raise UserError(
                f"SimKD needs the teacher's {target} channels, but '{self.student_layers[0]}' gives {channels}; name "
                f"the student's projector, and set --model.network.channels to {target}."
            )

    def attach(self, student: Network, teacher: Network, order: Tensor | None) -> None:
        """Give the student the teacher's last layer."""
        if not isinstance(student, SimKDStudent):
            raise UserError(
                f"SimKD trains a SimKDStudent, which ends in the teacher's last layer, not {type(student).__name__}; "
                "name that as --model.network, with the student as --model.network.student."
            )
        student.take(last_linear(teacher), order)

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the mean over batch and map, a scalar."""
        return functional.mse_loss(to_float32(student), to_float32(teacher))
