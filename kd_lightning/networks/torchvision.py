"""The classifiers of torchvision, by name."""

import re
from functools import partial
from typing import Any

from torch import Tensor, nn

from kd_lightning.data.normalize import IMAGENET, Normalization
from kd_lightning.errors import UserError
from kd_lightning.networks.libraries import WrappedNetwork

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


class TorchvisionNetwork(WrappedNetwork):
    """A classifier of torchvision, such as ``resnet18`` or ``mobilenet_v2``, untrained or with torchvision's weights.

    Its layers have torchvision's names (``layer1``, ``layer2.0.conv1``, ``features.3``).

    Args:
        num_classes: Number of classes, 2 or more.
        in_channels: Channels of an image: 3, as torchvision's networks take them.
        image_size: Height and width of an image in pixels.
        name: The name in ``torchvision.models``.
        weights: torchvision's name of the weights to begin with, such as ``DEFAULT`` or ``IMAGENET1K_V2``, which are
            downloaded once; none by default. The last layer begins untrained where the classes are not 1000. They
            were trained on images of 224 pixels or so, normalized as ``--data.normalize imagenet`` does.
        small_images: Whether to use a stem for images of 32 or 64 pixels: its first convolution keeps their size, with
            a 3x3 kernel (which is untrained where the weights have 7x7), and no pooling follows. It exists for resnet,
            resnext, wide_resnet, densenet, shufflenet, regnet, mobilenet, mnasnet and efficientnet.

    Raises:
        UserError: There is no such classifier, it has no such weights or no stem for small images; the images are grey
            or of a size that it does not take; the weights cannot be downloaded.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: int = 32,
        name: str = "resnet18",
        weights: str | None = None,
        small_images: bool = False,
    ) -> None:
        # a file of the trained network has all weights, so its arguments omit the pretrained ones
        super().__init__(num_classes, in_channels, image_size, name=name, small_images=small_images)
        if in_channels != 3:
            raise UserError(
                f"{name} of torchvision takes colour images, not {in_channels} channel(s); "
                "set --data.channels 3 or choose another network."
            )
        build = partial(_build, name, num_classes, image_size, weights, small_images)
        self.build_body(f"{name} of torchvision", build, pretrained=weights is not None)
        self.normalization = None if weights is None else Normalization(*IMAGENET)


def _build(name: str, num_classes: int, image_size: int, weights: str | None, small_images: bool) -> nn.Module:
    """Build a classifier; some are built for one image size, and two return more than logits in training."""
    from torchvision import models  # imported here: it takes a second that other networks do not need

    known = models.list_models(module=models)
    if name not in known:
        raise UserError(f"torchvision has no classifier '{name}'; choose one of {', '.join(known)}.")
    options: dict[str, Any] = {}
    if name.startswith("vit_"):
        options = {"image_size": image_size}
    elif name.startswith("maxvit_"):
        options = {"input_size": (image_size, image_size)}
    elif name in ("googlenet", "inception_v3"):
        options = {"aux_logits": False, "init_weights": True}
    body: nn.Module = models.get_model(name, weights=None, num_classes=num_classes, **options)
    if small_images:
        _shrink_stem(body, name)
    if weights is not None:
        _load_weights(body, name, find_weights(name, weights), image_size)
    return body


def _shrink_stem(body: nn.Module, name: str) -> None:
    """Let a network's stem keep the size of images: a 3x3 convolution with stride 1, no pooling."""
    kind = type(body).__name__
    if kind not in STEMS:
        raise UserError(
            f"small_images is not defined for {name}; set it to false, or choose a network of torchvision's "
            f"{', '.join(STEMS)}."
        )
    first, pooling = STEMS[kind]
    convolution = body.get_submodule(first)
    assert isinstance(convolution, nn.Conv2d)
    smaller = nn.Conv2d(convolution.in_channels, convolution.out_channels, 3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(smaller.weight, mode="fan_out", nonlinearity="relu")  # as ResNet and DenseNet do
    body.set_submodule(first, smaller)
    if pooling is not None:
        body.set_submodule(pooling, nn.Identity())


def find_weights(name: str, weights: str) -> Any:
    """Return torchvision's weights of a whole classifier with the usual normalization.

    Raises:
        UserError: There are none.
    """
    from torchvision import models

    if name in ("googlenet", "inception_v3"):
        raise UserError(
            f"the weights of {name} are for another normalization than all others; leave weights out, or choose "
            "another network."
        )
    members = models.get_model_weights(name).__members__
    known = {key: member for key, member in members.items() if member.meta["categories"] is not None}
    if weights not in known:
        raise UserError(f"torchvision has no weights '{weights}' of {name}; set weights to one of {', '.join(known)}.")
    return known[weights]


def _load_weights(body: nn.Module, name: str, weights: Any, image_size: int) -> None:
    """Load weights, except those of the first and last layer that have another shape in the network."""
    state: dict[str, Tensor] = weights.get_state_dict(check_hash=True, weights_only=True, map_location="cpu")
    if name.startswith("densenet"):  # its weights were saved under older names
        state = {re.sub(r"\.(norm|conv)\.([12])\.", r".\1\2.", key): value for key, value in state.items()}
    if name.startswith("vit_"):
        from torchvision.models.vision_transformer import interpolate_embeddings

        state = interpolate_embeddings(image_size, body.patch_size, state)
    own = body.state_dict()
    first, last = next(iter(own)), list(own)[-1].rpartition(".")[0]
    may_differ = {first, f"{last}.weight", f"{last}.bias"}
    for key in may_differ & state.keys() & own.keys():
        if state[key].shape != own[key].shape:
            del state[key]
    missing, unexpected = body.load_state_dict(state, strict=False)  # layers fill in what older files lack
    if unexpected or set(missing) - may_differ:
        raise ValueError("they are those of another network")
