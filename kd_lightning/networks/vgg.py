"""VGG for CIFAR, VGG-8 to VGG-19 with batch normalization."""

from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from kd_lightning.networks.base import Network
from kd_lightning.networks.blocks import (
    GlobalAvgPool,
    init_kaiming,
    initialize_classifier,
    normalized,
    require_image_size,
    require_option,
)

CHANNELS = (64, 128, 256, 512, 512)
"""Channels of the five blocks."""

CONVOLUTIONS = {8: (1, 1, 1, 1, 1), 11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Convolutions of the five blocks, by depth."""


def _block(in_channels: int, channels: int, convolutions: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise([in_channels, *[channels] * convolutions]):
        layers += normalized(nn.Conv2d(before, after, kernel_size=3, padding=1))
    return nn.Sequential(*layers)


class VGG(Network):
    """A VGG network for CIFAR with batch normalization; 3,918,858 parameters with ``depth`` 8 for CIFAR-10.

    ``block0`` to ``block4`` give maps of 64, 128, 256, 512 and 512 channels after a ReLU, each of half the size of the
    one before; only ``block4`` keeps the size of ``block3`` where images have fewer than 64 pixels.

    Simonyan and Zisserman 2015, https://arxiv.org/abs/1409.1556, as in papers on distillation: one linear layer on the
    means of the last map. Weights have RepDistiller's names, whose state dicts can be loaded.

    Args:
        num_classes: Number of classes, 2 or more.
        in_channels: Channels of an image: 1 (grey) or 3 (colour).
        image_size: Height and width of an image in pixels, 8 or more.
        depth: Number of layers: 8, 11, 13, 16 or 19.

    Raises:
        UserError: The depth is not valid, or the images are too small.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 3, image_size: int = 32, depth: int = 8) -> None:
        super().__init__(num_classes, in_channels, image_size, depth=depth)
        require_image_size(self, 8)
        known = ", ".join(map(str, CONVOLUTIONS))
        require_option(self, "depth", depth, depth in CONVOLUTIONS, f"one of {known}")
        self.block0, self.block1, self.block2, self.block3, self.block4 = (
            _block(before, after, count)
            for (before, after), count in zip(pairwise((in_channels, *CHANNELS)), CONVOLUTIONS[depth], strict=True)
        )
        self.pool = GlobalAvgPool()
        self.classifier = nn.Linear(CHANNELS[-1], num_classes)
        init_kaiming(self)
        initialize_classifier(self.classifier)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, (B, num_classes), of normalized images (B, in_channels, S, S)."""
        values = images
        for block in (self.block0, self.block1, self.block2):
            values = max_pool2d(block(values), 2)
        values = self.block3(values)
        if self.image_size >= 64:
            values = max_pool2d(values, 2)
        return self.classifier(self.pool(self.block4(values)))  # type: ignore[no-any-return]
