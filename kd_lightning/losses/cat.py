"""Class attention transfer: where in the image the evidence for each class is."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from kd_lightning.errors import UserError
from kd_lightning.losses.base import Targets, to_float32
from kd_lightning.losses.layers import LayerLoss, Shape, Size
from kd_lightning.losses.projectors import shape_text
from kd_lightning.losses.similarity import directions
from kd_lightning.networks.base import Network
from kd_lightning.networks.last_layer import last_linear, weight_of
from kd_lightning.networks.layers import Outputs


def class_maps(feature_map: Tensor, weight: Tensor) -> Tensor:
    """Return the class activation maps of a classifier on means of maps, (B, C, H, W) and (K, C) -> (B, K, H, W)."""
    return functional.conv2d(feature_map, weight.to(feature_map)[:, :, None, None])


def attention_loss(student_maps: Tensor, teacher_maps: Tensor, normalize: bool) -> Tensor:
    """Return the mean squared difference of class activation maps.

    Args:
        student_maps: (B, K, H, W).
        teacher_maps: (B, K, H, W).
        normalize: Whether each map is first divided by its length.

    Returns:
        A scalar, 0 or more.
    """
    own, other = (to_float32(maps).flatten(0, 1).flatten(1) for maps in (student_maps, teacher_maps))  # (B K, H W)
    if normalize:
        own, other = directions(own), directions(other)
    return functional.mse_loss(own, other)


class CATKD(LayerLoss):
    """The mean squared difference between class activation maps: where the evidence for each class is in the image.

    Guo et al., "Class Attention Transfer Based Knowledge Distillation" (CVPR 2023, https://arxiv.org/abs/2304.12777):
    ``mean (M_s - M_t)^2``, where M is a map for each class, the channels of the last map weighted as in the last linear
    layer, averaged down to ``resolution`` and divided by its length. It trains the student's last layer, too. It is for
    networks whose last linear layer gets the means of the map's channels, as in all networks here but DeepNN and
    LightNN.

    A weight of 400 at 2x2 beside labels at 1 is the default of the authors' code for 100 classes. For unlike networks
    they take 15 to 600; for like ones 0.7 to 15, with ``normalize`` false.

    It has no parameters. The teacher cache holds ``num_classes`` numbers per position, 4 times as many as of logits. It
    works with mixed images and a batch of one. A map of zeros has zero attention. The authors' networks have no bias in
    their last layer, which changes no map.

    Args:
        student: The student's last map before pooling, such as ``layer3``.
        teacher: The teacher's last map before pooling; by default the student's name.
        resolution: Height and width of the class maps, 1 or more.
        normalize: Whether each map is divided by its length.

    Raises:
        UserError: A layer is not what the last linear layer gets the means of, or smaller than ``resolution``.
    """

    short = "cat"
    want = "pooled"

    def __init__(
        self,
        student: str,
        teacher: str | None = None,
        resolution: int = 2,
        normalize: bool = True,
        weight: float = 400.0,
        warm_up: int = 0,
    ) -> None:
        super().__init__(student, teacher, weight, warm_up)
        if resolution < 1 + normalize:
            fix = "2 or more, or 1 with normalize false: one place of length one has no gradient"
            raise UserError(f"resolution of CATKD is {resolution}, but it must be {fix}.")
        self.resolution, self.normalize = resolution, normalize

    def size(self, student: Shape, teacher: Shape) -> Size:
        """Return the height and width of the class maps."""
        return self.resolution, self.resolution

    def key(self, layer: str, size: Size, shape: Shape) -> str:
        """Return the key of a layer's class maps."""
        return f"class maps of {layer} averaged to {shape_text(size or ())}"

    def connect(self, pairs: Sequence[tuple[Shape, Shape]]) -> None:
        """Check that the maps are as large as the class maps."""
        [shapes] = pairs
        names = *self.student_layers, *self.teacher_layers
        for name, shape in zip(names, shapes, strict=True):
            if min(shape[1:]) < self.resolution:
                raise UserError(
                    f"resolution of CATKD is {self.resolution}, but '{name}' gives {shape_text(shape)}; name the last "
                    "map before pooling, or set a lower resolution."
                )
        self._channels = tuple(shape[0] for shape in shapes)

    def attach(self, student: Network, teacher: Network, order: Tensor | None) -> None:
        """Keep the last layers of both networks."""
        names = *self.student_layers, *self.teacher_layers
        self._last = last_linear(student), last_linear(teacher)  # a tuple is not searched for submodules
        self._order = order
        for layer, name, channels in zip(self._last, names, self._channels, strict=True):
            if (inputs := weight_of(layer).shape[1]) != channels:
                raise UserError(
                    f"CATKD needs the map whose means the last linear layer gets, of {inputs} channels, but '{name}' "
                    f"gives {channels}; name the last map before pooling, or take another loss."
                )

    def teacher_target(self, teacher: Outputs) -> Targets:
        """Return the teacher's class maps, (B, num_classes, resolution, resolution)."""
        [(key, values)] = super().teacher_target(teacher).items()
        maps = class_maps(values, weight_of(self._last[1]))
        return {key: maps if self._order is None else maps.index_select(1, self._order.to(maps.device))}

    def compare(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return the mean over batch, classes and positions, a scalar."""
        return attention_loss(class_maps(student, weight_of(self._last[0])), teacher, self.normalize)
