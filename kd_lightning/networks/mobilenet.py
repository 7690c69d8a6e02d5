"""MobileNetV2 for small images, as comparisons of distillation methods have it."""

from torch import Tensor, nn

from kd_lightning.errors import UserError
from kd_lightning.networks.base import Network
from kd_lightning.networks.blocks import ChannelMeans, initialize_as_he
from kd_lightning.networks.normalized import depthwise_convolution, normalized_convolution

LEAST_WIDTH, GREATEST_WIDTH = 0.1, 4.0


class _InvertedResidual(nn.Module):
    """Widens a map, filters each channel alone and narrows it without ReLU; adds its input where the shapes agree.

    Args:
        in_channels: Channels of its input.
        out_channels: Channels of its output.
        stride: 2 halves height and width.
        expansion: How many times the channels of its input it has inside.
    """

    works_with_fast_path = True

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int = 6) -> None:
        super().__init__()
        inside = in_channels * expansion
        self.body = nn.Sequential(
            normalized_convolution(in_channels, inside),
            depthwise_convolution(inside, stride),
            normalized_convolution(inside, out_channels, relu=False),
        )
        self.adds = stride == 1 and in_channels == out_channels

    def forward(self, values: Tensor) -> Tensor:
        """Return a map (B, out_channels, H / stride, W / stride)."""
        changed: Tensor = self.body(values)
        return values + changed if self.adds else changed


class MobileNetV2(Network):
    """MobileNetV2 for small images, by default half as wide as the original: 697,546 parameters for CIFAR-10.

    For 100 classes it has 812,836: the one of that name in comparisons of distillation methods. ``stem`` halves images
    once, so that ``layer1`` to ``layer4`` give maps of S/2, S/4, S/8 and S/16 with 24, 32, 96 and 320 channels times
    ``width``, without a ReLU behind. Sandler et al. 2018: https://arxiv.org/abs/1801.04381

    Args:
        num_classes: Number of classes, 2 or more.
        in_channels: Channels of an image: 1 (grey) or 3 (colour).
        image_size: Height and width of an image in pixels.
        width: Factor on the channels of all layers, from 0.1 to 4; the last 1x1 convolution keeps 1280 or more.

    Raises:
        UserError: The width is out of its range.
    """

    works_with_fast_path = True

    def __init__(self, num_classes: int = 10, in_channels: int = 3, image_size: int = 32, width: float = 0.5) -> None:
        super().__init__(num_classes, in_channels, image_size, width=width)
        if not LEAST_WIDTH <= width <= GREATEST_WIDTH:
            raise UserError(
                f"the width of MobileNetV2 is a factor from {LEAST_WIDTH:g} to {GREATEST_WIDTH:g}, not {width:g}; "
                "set width to such a number."
            )
        w32, w16, w24, w64, w96, w160, w320 = (int(width * count) for count in (32, 16, 24, 64, 96, 160, 320))
        last = int(1280 * max(width, 1))
        self.stem = normalized_convolution(in_channels, w32, 3, stride=2)
        self.layer1 = nn.Sequential(_InvertedResidual(w32, w16, 1, expansion=1), *_stage(w16, w24, 2, 1))
        self.layer2 = nn.Sequential(*_stage(w24, w32, 3, 2))
        self.layer3 = nn.Sequential(*_stage(w32, w64, 4, 2), *_stage(w64, w96, 3, 1))
        self.layer4 = nn.Sequential(*_stage(w96, w160, 3, 2), *_stage(w160, w320, 1, 1))
        self.last = normalized_convolution(w320, last)
        self.pool = ChannelMeans()
        self.head = nn.Linear(last, num_classes)
        initialize_as_he(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, (B, num_classes), of normalized images (B, in_channels, S, S)."""
        values = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(images)))))
        return self.head(self.pool(self.last(values)))  # type: ignore[no-any-return]


def _stage(in_channels: int, out_channels: int, blocks: int, stride: int) -> list[_InvertedResidual]:
    """Build blocks one after the other, of which the first changes the shape."""
    others = [_InvertedResidual(out_channels, out_channels, 1) for _ in range(blocks - 1)]
    return [_InvertedResidual(in_channels, out_channels, stride), *others]
