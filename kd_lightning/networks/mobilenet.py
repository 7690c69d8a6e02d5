"""MobileNetV2 for small images, as in comparisons of distillation methods."""

from functools import partial

from torch import Tensor, nn

from kd_lightning.networks.base import Network
from kd_lightning.networks.blocks import (
    GlobalAvgPool,
    convolution,
    depthwise_convolution,
    init_kaiming,
    initialize_classifier,
    normalized,
    pointwise_convolution,
    require_option,
    stage,
)

STAGES = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""Expansion, channels at width 1, blocks and stride of the first block of each stage."""

MIN_WIDTH, MAX_WIDTH = 0.1, 4.0


class _InvertedResidual(nn.Module):
    """The inverted residual block: expansion, depthwise convolution, linear projection; a shortcut if shapes agree.

    Args:
        in_channels: Channels of its input.
        out_channels: Channels of its output.
        stride: 2 halves height and width.
        expansion: Factor of the channels inside.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int = 6) -> None:
        super().__init__()
        inside = in_channels * expansion
        self.conv = nn.Sequential(
            *normalized(pointwise_convolution(in_channels, inside), inplace=True),
            *normalized(depthwise_convolution(inside, stride), inplace=True),
            *normalized(pointwise_convolution(inside, out_channels))[:2],
        )
        self.adds = stride == 1 and in_channels == out_channels

    def forward(self, values: Tensor) -> Tensor:
        """Return a map (B, out_channels, H / stride, W / stride)."""
        changed: Tensor = self.conv(values)
        return values + changed if self.adds else changed


class MobileNetV2(Network):
    """MobileNetV2 for small images, by default half as wide as the original: 697,546 parameters for CIFAR-10.

    For 100 classes it has 812,836, as the one in comparisons of distillation methods. ``conv1`` halves images once, so
    that ``blocks.1``, ``blocks.2``, ``blocks.4`` and ``blocks.6`` give maps of S/2, S/4, S/8 and S/16 with 24, 32, 96
    and 320 channels times ``width``, without a ReLU after them. Sandler et al. 2018: https://arxiv.org/abs/1801.04381.
    Weights have RepDistiller's names, whose state dicts can be loaded.

    Args:
        num_classes: Number of classes, 2 or more.
        in_channels: Channels of an image: 1 (grey) or 3 (colour).
        image_size: Height and width of an image in pixels.
        width: Factor on the channels of all layers, from 0.1 to 4; the last 1x1 convolution keeps 1280 or more.

    Raises:
        UserError: The width is out of its range.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 3, image_size: int = 32, width: float = 0.5) -> None:
        super().__init__(num_classes, in_channels, image_size, width=width)
        is_valid = MIN_WIDTH <= width <= MAX_WIDTH
        require_option(self, "width", width, is_valid, f"a factor from {MIN_WIDTH:g} to {MAX_WIDTH:g}")
        channels, last = int(32 * width), int(1280 * max(width, 1))
        self.conv1 = nn.Sequential(*normalized(convolution(in_channels, channels, stride=2), inplace=True))
        self.blocks = nn.Sequential()
        for expansion, out_channels, blocks, stride in STAGES:
            block = partial(_InvertedResidual, expansion=expansion)
            self.blocks.append(stage(block, channels, int(out_channels * width), blocks, stride))
            channels = int(out_channels * width)
        self.conv2 = nn.Sequential(*normalized(pointwise_convolution(channels, last), inplace=True))
        self.pool = GlobalAvgPool()
        head = nn.Linear(last, num_classes)
        self.classifier = nn.Sequential(head)
        init_kaiming(self)
        initialize_classifier(head)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, (B, num_classes), of normalized images (B, in_channels, S, S)."""
        values = self.conv2(self.blocks(self.conv1(images)))
        return self.classifier(self.pool(values))  # type: ignore[no-any-return]
