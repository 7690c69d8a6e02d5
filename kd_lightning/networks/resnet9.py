"""ResNet9, which reaches 94 % on CIFAR-10 in little time."""

from torch import Tensor, nn

from kd_lightning.networks.base import Network
from kd_lightning.networks.blocks import (
    GlobalMaxPool,
    activated_convolution,
    init_kaiming,
    require_image_size,
    require_width,
)


class _Residual(nn.Module):
    """A residual block of two convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(activated_convolution(channels, channels), activated_convolution(channels, channels))

    def forward(self, values: Tensor) -> Tensor:
        """Return the sum, of the map's shape."""
        return values + self.body(values)  # type: ignore[no-any-return]


class ResNet9(Network):
    """The fast ResNet of nine layers: 6,573,130 parameters for CIFAR-10, 1,646,122 with ``width`` 32.

    Its layers ``stem``, ``layer1``, ``layer2`` and ``layer3`` give maps of W, 2W, 4W and 8W channels, each at half the
    height and width of the one before, all after a ReLU. From D. Page, "How to train your ResNet"
    (https://myrtle.ai/learn/how-to-train-your-resnet/), without the factor on the logits.

    Args:
        num_classes: Number of classes, 2 or more.
        in_channels: Channels of an image: 1 (grey) or 3 (colour).
        image_size: Height and width of an image in pixels, 8 or more.
        width: Channels W of the stem, 1 or more.

    Raises:
        UserError: The images or the width are too small.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 3, image_size: int = 32, width: int = 64) -> None:
        super().__init__(num_classes, in_channels, image_size, width=width)
        require_image_size(self, 8)
        require_width(self, width)
        self.stem = activated_convolution(in_channels, width)
        self.layer1 = nn.Sequential(activated_convolution(width, 2 * width), nn.MaxPool2d(2), _Residual(2 * width))
        self.layer2 = nn.Sequential(activated_convolution(2 * width, 4 * width), nn.MaxPool2d(2))
        self.layer3 = nn.Sequential(activated_convolution(4 * width, 8 * width), nn.MaxPool2d(2), _Residual(8 * width))
        self.pool = GlobalMaxPool()
        self.head = nn.Linear(8 * width, num_classes)
        init_kaiming(self)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, (B, num_classes), of normalized images (B, in_channels, S, S)."""
        values = self.layer3(self.layer2(self.layer1(self.stem(images))))  # (B, 8W, S/8, S/8)
        return self.head(self.pool(values))  # type: ignore[no-any-return]
