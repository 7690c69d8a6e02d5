"""WideResNet: residual networks for CIFAR with few layers of many channels, WRN-16-1 to WRN-40-2 and wider."""

from collections import OrderedDict

from torch import Tensor, nn

from kd_lightning.networks.base import Network
from kd_lightning.networks.blocks import (
    GlobalAvgPool,
    convolution,
    init_kaiming,
    require_depth,
    require_image_size,
    require_width,
    stage,
)


class _Block(nn.Module):
    """The pre-activation block: two convolutions, each after batch normalization and ReLU, added to the input."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        self.conv1 = convolution(in_channels, channels, stride=stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu2 = nn.ReLU()
        self.conv2 = convolution(channels, channels)
        self.convShortcut = (
            convolution(in_channels, channels, kernel_size=1, stride=stride) if in_channels != channels else None
        )

    def forward(self, values: Tensor) -> Tensor:
        """Return the map (B, channels, S/stride, S/stride)."""
        activated = self.relu1(self.bn1(values))
        shortcut = values if self.convShortcut is None else self.convShortcut(activated)
        return shortcut + self.conv2(self.relu2(self.bn2(self.conv1(activated))))  # type: ignore[no-any-return]


def _group(in_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layer=stage(_Block, in_channels, channels, blocks, stride)))


class WideResNet(Network):
    """A wide residual network of 6n + 4 layers; 691,674 parameters with ``depth`` 16 and ``width`` 2 for CIFAR-10.

    WRN-40-2 is ``depth`` 40 and ``width`` 2. ``block1``, ``block2`` and ``block3`` give maps of 16, 32 and 64 channels
    (times ``width``), of the image's size, a half and a quarter of it. These are sums *before* batch normalization and
    ReLU, so their values have both signs; ``relu`` gives the last one after them.

    Zagoruyko and Komodakis 2016, https://arxiv.org/abs/1605.07146, without dropout. Weights have RepDistiller's names,
    whose state dicts can be loaded.

    Args:
        num_classes: Number of classes, 2 or more.
        in_channels: Channels of an image: 1 (grey) or 3 (colour).
        image_size: Height and width of an image in pixels, 4 or more.
        depth: Number of layers: 10, 16, 22, 28, 40 or another 6n + 4.
        width: Factor of the channels, 1 or more.

    Raises:
        UserError: The depth or width is not valid, or the images are too small.
    """

    def __init__(
        self, num_classes: int = 10, in_channels: int = 3, image_size: int = 32, depth: int = 16, width: int = 2
    ) -> None:
        super().__init__(num_classes, in_channels, image_size, depth=depth, width=width)
        require_image_size(self, 4)
        require_depth(self, depth, 4)
        require_width(self, width)
        blocks = (depth - 4) // 6
        self.conv1 = convolution(in_channels, 16)
        self.block1 = _group(16, 16 * width, blocks, stride=1)
        self.block2 = _group(16 * width, 32 * width, blocks, stride=2)
        self.block3 = _group(32 * width, 64 * width, blocks, stride=2)
        self.bn1 = nn.BatchNorm2d(64 * width)
        self.relu = nn.ReLU()
        self.pool = GlobalAvgPool()
        self.fc = nn.Linear(64 * width, num_classes)
        init_kaiming(self)
        nn.init.zeros_(self.fc.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, (B, num_classes), of normalized images (B, in_channels, S, S)."""
        values = self.block3(self.block2(self.block1(self.conv1(images))))
        return self.fc(self.pool(self.relu(self.bn1(values))))  # type: ignore[no-any-return]
