"""ShuffleNet for small images, both versions, as in comparisons of distillation methods."""

import torch
from torch import Tensor, nn

from kd_lightning.networks.base import Network
from kd_lightning.networks.blocks import (
    GlobalAvgPool,
    depthwise_convolution,
    pointwise_convolution,
    require_option,
)

STEM = 24
"""Channels of the stem."""

GROUPS = 3
"""ShuffleNetV1's groups of a 1x1 convolution."""

CHANNELS = {
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (224, 488, 976, 2048),
}
"""ShuffleNetV2 by width: channels of the three stages and of the last convolution, as in RepDistiller.

At width 2 the paper's first stage has 244.
"""


class _Shuffle(nn.Module):
    """The channel shuffle: interleaves the groups, so that each group after it has channels of all groups before.

    Args:
        groups: Groups of channels.
    """

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, values: Tensor) -> Tensor:
        """Return a map of the same shape, in channels_last memory where the input is."""
        if torch.compiler.is_exporting():  # runtimes have their own memory format and are a sixth faster this way
            grouped: Tensor = values.unflatten(1, (self.groups, -1))
            return grouped.transpose(1, 2).flatten(1, 2)  # (B, G, C/G, H, W) -> (B, C/G * G, H, W)
        grouped = values.permute(0, 2, 3, 1).unflatten(3, (self.groups, -1))
        # (B, H, W, G, C/G) -> (B, C/G * G, H, W)
        return grouped.transpose(3, 4).flatten(3, 4).permute(0, 3, 1, 2)


class _GroupedUnit(nn.Module):
    """ShuffleNet's unit: grouped 1x1 convolutions around a depthwise one, added to the input or concatenated with it.

    Args:
        in_channels: Channels of its input.
        out_channels: Channels of its output; where it halves the map, they include those of its input.
        stride: 2 halves height and width.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        own = out_channels - in_channels if stride == 2 else out_channels
        first, inside = 1 if in_channels == STEM else GROUPS, own // 4  # the first one after the stem has one group
        self.conv1 = pointwise_convolution(in_channels, inside, groups=first)
        self.bn1 = nn.BatchNorm2d(inside)
        self.relu1 = nn.ReLU(inplace=True)
        self.shuffle = _Shuffle(first)
        self.conv2 = depthwise_convolution(inside, stride)
        self.bn2 = nn.BatchNorm2d(inside)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv3 = pointwise_convolution(inside, own, groups=GROUPS)
        self.bn3 = nn.BatchNorm2d(own)
        self.shrinks = nn.AvgPool2d(3, stride=2, padding=1) if stride == 2 else None
        self.preact = nn.Identity()
        self.relu3 = nn.ReLU()

    def forward(self, values: Tensor) -> Tensor:
        """Return a map (B, out_channels, H / stride, W / stride)."""
        narrow = self.shuffle(self.relu1(self.bn1(self.conv1(values))))
        own: Tensor = self.bn3(self.conv3(self.relu2(self.bn2(self.conv2(narrow)))))
        joined = own + values if self.shrinks is None else torch.cat([own, self.shrinks(values)], 1)
        return self.relu3(self.preact(joined))  # type: ignore[no-any-return]


class ShuffleNetV1(Network):
    """ShuffleNet for small images, with three groups: 862,768 parameters for CIFAR-10, 949,258 for CIFAR-100.

    ``conv1``, a 1x1 convolution, keeps the image's size; ``layer1``, ``layer2`` and ``layer3`` give maps of S/2, S/4
    and S/8 with 240, 480 and 960 channels, after a ReLU; ``layer1.3.preact``, ``layer2.7.preact`` and
    ``layer3.3.preact`` give them before it. Zhang et al. 2018: https://arxiv.org/abs/1707.01083

    Weights have RepDistiller's names, whose state dicts can be loaded, and begin as there, with torch's defaults.

    Args:
        num_classes: Number of classes, 2 or more.
        in_channels: Channels of an image: 1 (grey) or 3 (colour).
        image_size: Height and width of an image in pixels.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 3, image_size: int = 32) -> None:
        super().__init__(num_classes, in_channels, image_size)
        self.conv1 = pointwise_convolution(in_channels, STEM)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _grouped_stage(STEM, 240, 4)
        self.layer2 = _grouped_stage(240, 480, 8)
        self.layer3 = _grouped_stage(480, 960, 4)
        self.pool = GlobalAvgPool()
        self.linear = nn.Linear(960, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, (B, num_classes), of normalized images (B, in_channels, S, S)."""
        values = self.relu(self.bn1(self.conv1(images)))
        values = self.layer3(self.layer2(self.layer1(values)))
        return self.linear(self.pool(values))  # type: ignore[no-any-return]


def _grouped_stage(in_channels: int, out_channels: int, units: int) -> nn.Sequential:
    """Build consecutive units, of which the first halves the map."""
    others = [_GroupedUnit(out_channels, out_channels, 1) for _ in range(units - 1)]
    return nn.Sequential(_GroupedUnit(in_channels, out_channels, 2), *others)


class _SplitUnit(nn.Module):
    """ShuffleNetV2's unit: convolves one half of the channels, then shuffles both.

    Args:
        channels: Channels of its input, which is not negative, and of its output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = pointwise_convolution(half, half)
        self.bn1 = nn.BatchNorm2d(half)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = depthwise_convolution(half)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = pointwise_convolution(half, half)
        self.bn3 = nn.BatchNorm2d(half)
        self.preact = nn.Identity()
        self.relu2 = nn.ReLU()
        self.shuffle = _Shuffle(2)

    def forward(self, values: Tensor) -> Tensor:
        """Return a map of the same shape."""
        kept, other = values.chunk(2, dim=1)
        narrow = self.relu1(self.bn1(self.conv1(other)))
        changed = self.bn3(self.conv3(self.bn2(self.conv2(narrow))))
        joined = self.preact(torch.cat([kept, changed], 1))
        return self.shuffle(self.relu2(joined))  # type: ignore[no-any-return]  # the kept half comes from a ReLU


class _HalvingUnit(nn.Module):
    """ShuffleNetV2's unit that halves a map: two branches over all channels, shuffled.

    Args:
        in_channels: Channels of its input.
        out_channels: Channels of its output.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        half = out_channels // 2
        self.conv1 = depthwise_convolution(in_channels, 2)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv2 = pointwise_convolution(in_channels, half)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = pointwise_convolution(in_channels, half)
        self.bn3 = nn.BatchNorm2d(half)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv4 = depthwise_convolution(half, 2)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = pointwise_convolution(half, half)
        self.bn5 = nn.BatchNorm2d(half)
        self.relu2 = nn.ReLU()
        self.shuffle = _Shuffle(2)

    def forward(self, values: Tensor) -> Tensor:
        """Return a map (B, out_channels, H / 2, W / 2)."""
        short = self.bn2(self.conv2(self.bn1(self.conv1(values))))
        narrow = self.relu1(self.bn3(self.conv3(values)))
        changed = self.bn5(self.conv5(self.bn4(self.conv4(narrow))))
        return self.shuffle(self.relu2(torch.cat([short, changed], 1)))  # type: ignore[no-any-return]


class ShuffleNetV2(Network):
    """ShuffleNetV2 for small images: 1,263,278 parameters for CIFAR-10, 1,355,528 for CIFAR-100.

    ``conv1``, a 1x1 convolution, keeps the image's size; ``layer1``, ``layer2`` and ``layer3`` give maps of S/2, S/4
    and S/8, at width 1 with 116, 232 and 464 channels, after a ReLU; ``layer1.3.preact``, ``layer2.7.preact`` and
    ``layer3.3.preact`` give them before it, and before they are shuffled. Ma et al. 2018:
    https://arxiv.org/abs/1807.11164

    Weights have RepDistiller's names, whose state dicts can be loaded, and begin as there, with torch's defaults.

    Args:
        num_classes: Number of classes, 2 or more.
        in_channels: Channels of an image: 1 (grey) or 3 (colour).
        image_size: Height and width of an image in pixels.
        width: 0.5, 1, 1.5 or 2: approximate factor on the channels.

    Raises:
        UserError: The width is another one.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 3, image_size: int = 32, width: float = 1.0) -> None:
        super().__init__(num_classes, in_channels, image_size, width=width)
        known = ", ".join(f"{number:g}" for number in CHANNELS)
        require_option(self, "width", width, width in CHANNELS, f"one of {known}")
        first, second, third, last = CHANNELS[width]
        self.conv1 = pointwise_convolution(in_channels, STEM)
        self.bn1 = nn.BatchNorm2d(STEM)
        self.relu1 = nn.ReLU(inplace=True)
        self.layer1 = _split_stage(STEM, first, 4)
        self.layer2 = _split_stage(first, second, 8)
        self.layer3 = _split_stage(second, third, 4)
        self.conv2 = pointwise_convolution(third, last)
        self.bn2 = nn.BatchNorm2d(last)
        self.relu2 = nn.ReLU(inplace=True)
        self.pool = GlobalAvgPool()
        self.linear = nn.Linear(last, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, (B, num_classes), of normalized images (B, in_channels, S, S)."""
        values = self.relu1(self.bn1(self.conv1(images)))
        values = self.layer3(self.layer2(self.layer1(values)))
        values = self.relu2(self.bn2(self.conv2(values)))
        return self.linear(self.pool(values))  # type: ignore[no-any-return]


def _split_stage(in_channels: int, out_channels: int, units: int) -> nn.Sequential:
    """Build consecutive units, of which the first halves the map."""
    return nn.Sequential(_HalvingUnit(in_channels, out_channels), *[_SplitUnit(out_channels) for _ in range(units - 1)])
