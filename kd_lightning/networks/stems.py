"""Stems of torchvision's networks for small images: the original ones, for 224 pixels, shrink 32 pixels to a few."""

from torch import nn

from kd_lightning.errors import UserError

STEMS: dict[str, tuple[str, str | None]] = {
    "DenseNet": ("features.conv0", "features.pool0"),
    "EfficientNet": ("features.0.0", None),
    "MNASNet": ("layers.0", None),
    "MobileNetV2": ("features.0.0", None),
    "MobileNetV3": ("features.0.0", None),
    "RegNet": ("stem.0", None),
    "ResNet": ("conv1", "maxpool"),
    "ShuffleNetV2": ("conv1.0", "maxpool"),
}
"""By torchvision's class: the first convolution, whose stride is 2, and the pooling after it, where there is one."""


def shrink_stem(body: nn.Module, name: str) -> None:
    """Let a network's stem keep the size of images: a 3x3 convolution with stride 1, no pooling.

    Args:
        body: A network of torchvision, changed in place.
        name: Its name.

    Raises:
        UserError: Its family has no stem for small images.
    """
    kind = type(body).__name__
    if kind not in STEMS:
        raise UserError(
            f"small_images is not defined for {name}; set it to false, or choose a network of torchvision's "
            f"{', '.join(STEMS)}."
        )
    first, pooling = STEMS[kind]
    convolution = body.get_submodule(first)
    assert isinstance(convolution, nn.Conv2d)
    body.set_submodule(first, _keeping_size(convolution))
    if pooling is not None:
        body.set_submodule(pooling, nn.Identity())


def _keeping_size(convolution: nn.Conv2d) -> nn.Conv2d:
    """Return a 3x3 convolution with stride 1 and the same channels, initialized as ResNet's and DenseNet's are."""
    new = nn.Conv2d(convolution.in_channels, convolution.out_channels, 3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(new.weight, mode="fan_out", nonlinearity="relu")
    return new
