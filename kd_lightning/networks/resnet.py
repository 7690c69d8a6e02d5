"""ResNet: the residual networks for CIFAR, resnet8 to resnet110 and the four times wider resnet8x4 and resnet32x4."""

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
    """The residual block: two convolutions, added to the input before a ReLU."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = convolution(in_channels, channels, stride=stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv2 = convolution(channels, channels)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample: nn.Module = nn.Identity()
        if stride > 1 or in_channels != channels:
            self.downsample = nn.Sequential(
                convolution(in_channels, channels, kernel_size=1, stride=stride), nn.BatchNorm2d(channels)
            )
        self.preact = nn.Identity()
        self.relu2 = nn.ReLU()

    def forward(self, values: Tensor) -> Tensor:
        """Return the map (B, channels, S/stride, S/stride)."""
        added = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(values)))))
        return self.relu2(self.preact(added + self.downsample(values)))  # type: ignore[no-any-return]


class ResNet(Network):
    """A residual network for CIFAR of 6n + 2 layers; 272,474 parameters with ``depth`` 20 for CIFAR-10.

    ``layer1``, ``layer2`` and ``layer3`` give maps of 16, 32 and 64 channels (times ``width``), of the image's size, a
    half and a quarter of it, after a ReLU; ``preact`` of a stage's last block (``layer1.2.preact`` with ``depth`` 20)
    gives its map before that ReLU. The resnet8x4 and resnet32x4 of papers on distillation have ``width`` 4 and
    ``depth`` 8 and 32: 1,233,540 and 7,433,860 parameters for CIFAR-100.

    He et al. 2016, https://arxiv.org/abs/1512.03385. Where the map's shape changes, the shortcut is a 1x1 convolution
    with batch normalization, as in papers on distillation; the original has no weights there (2,752 fewer at ``width``
    1). Weights have RepDistiller's names, whose state dicts can be loaded.

    Args:
        num_classes: Number of classes, 2 or more.
        in_channels: Channels of an image: 1 (grey) or 3 (colour).
        image_size: Height and width of an image in pixels, 4 or more.
        depth: Number of layers: 8, 14, 20, 32, 44, 56, 110 or another 6n + 2.
        width: Factor of the channels, 1 or more; the first convolution's 16 channels are at most doubled.

    Raises:
        UserError: The depth or width is not valid, or the images are too small.
    """

    def __init__(
        self, num_classes: int = 10, in_channels: int = 3, image_size: int = 32, depth: int = 20, width: int = 1
    ) -> None:
        super().__init__(num_classes, in_channels, image_size, depth=depth, width=width)
        require_image_size(self, 4)
        require_depth(self, depth, 2)
        require_width(self, width)
        blocks, stem = (depth - 2) // 6, 16 * min(width, 2)
        self.conv1 = convolution(in_channels, stem)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU()
        self.layer1 = stage(_Block, stem, 16 * width, blocks, stride=1)
        self.layer2 = stage(_Block, 16 * width, 32 * width, blocks, stride=2)
        self.layer3 = stage(_Block, 32 * width, 64 * width, blocks, stride=2)
        self.pool = GlobalAvgPool()
        self.fc = nn.Linear(64 * width, num_classes)
        init_kaiming(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, (B, num_classes), of normalized images (B, in_channels, S, S)."""
        values = self.relu(self.bn1(self.conv1(images)))
        values = self.layer3(self.layer2(self.layer1(values)))
        return self.fc(self.pool(values))  # type: ignore[no-any-return]
