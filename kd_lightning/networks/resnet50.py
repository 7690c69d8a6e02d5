"""ResNet50 for small images: bottleneck blocks after a 3x3 convolution."""

from functools import partial

from torch import Tensor, nn

from kd_lightning.networks.base import Network
from kd_lightning.networks.blocks import (
    GlobalAvgPool,
    convolution,
    init_kaiming,
    require_image_size,
    require_option,
    stage,
)

EXPANSION = 4
"""Channels of a block's result for each of its 3x3 convolution."""


class _Bottleneck(nn.Module):
    """The bottleneck block: 1x1, 3x3 and 1x1 convolutions, added to the input before a ReLU."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        inner = channels // EXPANSION
        self.conv1 = convolution(in_channels, inner, kernel_size=1)
        self.bn1 = nn.BatchNorm2d(inner)
        self.relu1 = nn.ReLU()
        self.conv2 = convolution(inner, inner, stride=stride)
        self.bn2 = nn.BatchNorm2d(inner)
        self.relu2 = nn.ReLU()
        self.conv3 = convolution(inner, channels, kernel_size=1)
        self.bn3 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                convolution(in_channels, channels, kernel_size=1, stride=stride), nn.BatchNorm2d(channels)
            )
        self.preact = nn.Identity()
        self.relu3 = nn.ReLU()

    def forward(self, values: Tensor) -> Tensor:
        """Return the map (B, channels, S/stride, S/stride)."""
        inner = self.relu1(self.bn1(self.conv1(values)))
        added = self.bn3(self.conv3(self.relu2(self.bn2(self.conv2(inner)))))
        return self.relu3(self.preact(added + self.shortcut(values)))  # type: ignore[no-any-return]


class ResNet50(Network):
    """The ResNet50 of CIFAR papers, of bottleneck blocks after a 3x3 stem: 23,520,842 parameters for CIFAR-10.

    ``layer1`` to ``layer4`` give maps of 256, 512, 1024 and 2048 channels (at ``width`` 64), of the image's size, a
    half, a quarter and an eighth of it, after a ReLU; ``preact`` of a stage's last block (``layer1.2.preact``,
    ``layer2.3.preact``, ``layer3.5.preact``, ``layer4.2.preact``) gives its map before that ReLU.

    He et al. 2016, https://arxiv.org/abs/1512.03385, with a 3x3 convolution in place of the 7x7 one and its pooling.
    Weights have the names of RepDistiller's and mdistiller's ResNet50, whose state dicts can be loaded.

    Args:
        num_classes: Number of classes, 2 or more.
        in_channels: Channels of an image: 1 (grey) or 3 (colour).
        image_size: Height and width of an image in pixels, 8 or more.
        width: Channels of the first convolution, 4 or more; 64 in papers.

    Raises:
        UserError: The width is not valid, or the images are too small.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 3, image_size: int = 32, width: int = 64) -> None:
        super().__init__(num_classes, in_channels, image_size, width=width)
        require_image_size(self, 8)
        require_option(self, "width", width, width >= 4, "4 or more")  # torch aborts at 2 channels on a CPU
        blocks = partial(stage, _Bottleneck)
        first = EXPANSION * width
        self.conv1 = convolution(in_channels, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.layer1 = blocks(width, first, 3, stride=1)
        self.layer2 = blocks(first, 2 * first, 4, stride=2)
        self.layer3 = blocks(2 * first, 4 * first, 6, stride=2)
        self.layer4 = blocks(4 * first, 8 * first, 3, stride=2)
        self.pool = GlobalAvgPool()
        self.linear = nn.Linear(8 * first, num_classes)
        init_kaiming(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, (B, num_classes), of normalized images (B, in_channels, S, S)."""
        values = self.relu(self.bn1(self.conv1(images)))
        values = self.layer4(self.layer3(self.layer2(self.layer1(values))))
        return self.linear(self.pool(values))  # type: ignore[no-any-return]
