"""The cosine between the cells of two feature maps."""

from typing import TYPE_CHECKING

from torch import Tensor
from torch.nn import functional

from kd_lightning.losses.base import Targets, in_single
from kd_lightning.losses.features import FeatureLoss, Projection, projector, same_shape
from kd_lightning.networks.layers import Outputs, Shapes

if TYPE_CHECKING:
    from kd_lightning.data.loader import Batch


def cell_cosine_loss(projected_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Return one minus the cosine over channels, averaged over cells and batch.

    Args:
        projected_map: The student's map after the projector, (B, C, H, W).
        teacher_map: (B, C, H, W).

    Returns:
        A scalar in [0, 2]; a cell of zeros counts as one.

    Raises:
        ValueError: The shapes differ.
    """
    same_shape(projected_map, teacher_map)
    return 1 - functional.cosine_similarity(in_single(projected_map), in_single(teacher_map), dim=1, eps=1e-6).mean()


class CellCosine(FeatureLoss):
    """One minus the cosine over channels between each cell of the teacher's map and of the student's projected one.

    ``mean_(b, y, x) (1 - cos(p(f_s)[b, :, y, x], f_t[b, :, y, x]))``: the directions of the features without their
    sizes, place by place, where the seed's ``HiddenCosine`` compares places that do not meet.

    A weight of 2 with a 1x1 projector measured best for LightNN. The projector has ``C C' + C'`` parameters and is left
    behind after training; a remembered teacher keeps its whole map. A cell of zeros counts as one.

    Args:
        student: The student's layer, such as ``features``.
        teacher: The teacher's layer; the student's name where it is not given.
        projector: As in ``FeatureRegression``.
        weight: What the term is multiplied with in the sum.
        warm_up: Epochs in which the weight rises.

    Raises:
        UserError: The maps differ in height or width.
    """

    works_with_fast_path = True

    def __init__(
        self,
        student: str,
        teacher: str | None = None,
        projector: Projection = "1x1",
        weight: float = 2.0,
        warm_up: int = 0,
    ) -> None:
        super().__init__(student, teacher, weight, warm_up)
        self.kind = projector

    def build(self, student: Shapes, teacher: Shapes | None) -> None:
        """Make the projector."""
        own, target = self.maps(student, teacher)
        self.require_same_size(own, target)
        self.projector = projector(self.kind, own[0], target[0])

    def forward(self, student: Outputs, target: Targets, batch: "Batch") -> Tensor:
        """Return the mean over batch and cells, a scalar in [0, 2]."""
        return cell_cosine_loss(self.projector(student.maps[self.student]), target[self.teacher])
