"""Shared code of the networks with batch normalization: convolutions, initialization, argument checks."""

from collections.abc import Callable

from torch import Tensor, nn

from kd_lightning.errors import UserError
from kd_lightning.networks.base import Network


class GlobalAvgPool(nn.Module):
    """The mean of each channel of a map: a separate layer, so that losses can read the classifier's input."""

    def forward(self, values: Tensor) -> Tensor:
        """Return the mean of each channel, (B, C, H, W) -> (B, C)."""
        return values.mean((2, 3))


class GlobalMaxPool(nn.Module):
    """The largest value of each channel of a map."""

    def forward(self, values: Tensor) -> Tensor:
        """Return the maximum of each channel, (B, C, H, W) -> (B, C)."""
        return values.amax((2, 3))


def convolution(in_channels: int, out_channels: int, kernel_size: int = 3, stride: int = 1) -> nn.Conv2d:
    """Build a convolution that keeps the size of maps at stride 1; batch normalization makes a bias pointless."""
    return nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False)


def pointwise_convolution(in_channels: int, out_channels: int, groups: int = 1) -> nn.Conv2d:
    """Build a 1x1 convolution, optionally grouped."""
    return nn.Conv2d(in_channels, out_channels, 1, groups=groups, bias=False)


def depthwise_convolution(channels: int, stride: int = 1) -> nn.Conv2d:
    """Build a depthwise 3x3 convolution."""
    return nn.Conv2d(channels, channels, 3, stride, padding=1, groups=channels, bias=False)


def normalized(layer: nn.Conv2d, inplace: bool = False) -> tuple[nn.Conv2d, nn.BatchNorm2d, nn.ReLU]:
    """Return a convolution, and the batch normalization and ReLU after it."""
    return layer, nn.BatchNorm2d(layer.out_channels), nn.ReLU(inplace)


def activated_convolution(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """Build a 3x3 convolution with batch normalization and ReLU."""
    return nn.Sequential(*normalized(convolution(in_channels, out_channels, stride=stride)))


def stage(
    block: Callable[[int, int, int], nn.Module], in_channels: int, channels: int, blocks: int, stride: int
) -> nn.Sequential:
    """Build consecutive blocks, each from input channels, output channels and stride; only the first has ``stride``."""
    return nn.Sequential(
        block(in_channels, channels, stride), *(block(channels, channels, 1) for _ in range(blocks - 1))
    )


def init_kaiming(network: nn.Module) -> None:
    """Initialize convolutions by He et al. 2015, which keeps the size of gradients through ReLUs; biases begin at 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def initialize_classifier(layer: nn.Linear) -> None:
    """Initialize the last layer near 0, as RepDistiller does for VGG and MobileNetV2; its biases begin at 0."""
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)


def require_image_size(network: Network, minimum: int) -> None:
    """Refuse images that are so small that a network's last maps would be empty.

    Raises:
        UserError: The images are smaller than ``minimum``.
    """
    if network.image_size < minimum:
        kind = type(network).__name__
        raise UserError(
            f"{kind} takes images of {minimum} pixels or more, not {network.image_size}; "
            "set --data.image_size or choose another network."
        )


def require_option(network: Network, option: str, value: float, is_valid: bool, needed: str) -> None:
    """Refuse a value of an option that a network cannot have.

    Raises:
        UserError: It is not valid.
    """
    if not is_valid:
        raise UserError(f"--model.network.{option} is {value:g}; {type(network).__name__} needs {needed}.")


def require_width(network: Network, width: int) -> None:
    """Refuse a network without channels; raise ``UserError``."""
    require_option(network, "width", width, width >= 1, "1 or more")


def require_depth(network: Network, depth: int, rest: int) -> None:
    """Refuse a depth that three stages of blocks with two convolutions cannot have; raise ``UserError``."""
    some = ", ".join(str(6 * n + rest) for n in (1, 2, 3, 4, 6))
    is_valid = depth >= 6 + rest and (depth - rest) % 6 == 0
    require_option(network, "depth", depth, is_valid, f"6n + {rest} ({some}, ...)")
