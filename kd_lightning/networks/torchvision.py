"""The classifiers of torchvision, by name."""

from typing import Any

from torch import Tensor, nn

from kd_lightning.errors import UserError
from kd_lightning.networks.base import Network
from kd_lightning.networks.libraries import refused_images, require_images
from kd_lightning.networks.pretrained import load_pretrained
from kd_lightning.networks.stems import shrink_stem


class TorchvisionNetwork(Network):
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
        self.body = _untrained(name, num_classes, image_size)
        if small_images:
            shrink_stem(self.body, name)
        if weights is not None:
            load_pretrained(self.body, name, weights, image_size)
            self.came_with_weights = True
        require_images(self, f"{name} of torchvision")

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, (B, num_classes), of normalized images (B, 3, S, S)."""
        return self.body(images)  # type: ignore[no-any-return]

    def layer_root(self) -> nn.Module:
        """Return the module whose layers have torchvision's names."""
        return self.body


def _untrained(name: str, num_classes: int, image_size: int) -> nn.Module:
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
    try:
        return models.get_model(name, weights=None, num_classes=num_classes, **options)  # type: ignore[no-any-return]
    except (AssertionError, ValueError) as error:
        raise refused_images(f"{name} of torchvision", image_size, error) from error
