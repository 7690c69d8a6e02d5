"""A convolution with batch normalization: what the small networks for phones are made of."""

from torch import nn


def normalized_convolution(
    in_channels: int, out_channels: int, kernel_size: int = 1, stride: int = 1, groups: int = 1, relu: bool = True
) -> nn.Sequential:
    """Build a convolution that keeps the size of maps at stride 1, with batch normalization and, mostly, ReLU behind.

    Args:
        in_channels: Channels of its input.
        out_channels: Channels of its output.
        kernel_size: Height and width of its kernel, odd.
        stride: 2 halves height and width, rounding up.
        groups: Groups of channels that do not see each other; as many as there are channels: depthwise.
        relu: Whether ReLU follows.
    """
    padding = kernel_size // 2
    layers = [
        nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
    ]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)


def depthwise_convolution(channels: int, stride: int = 1, relu: bool = True) -> nn.Sequential:
    """Build a 3x3 convolution of each channel alone, with batch normalization and, mostly, ReLU behind."""
    return normalized_convolution(channels, channels, 3, stride, groups=channels, relu=relu)
