"""The classifiers of torchvision, by name."""

from torch import Tensor, nn

from kd_lightning.errors import UserError
from kd_lightning.networks.base import Network


class TorchvisionNetwork(Network):
    """A classifier of torchvision, such as ``resnet18`` or ``mobilenet_v2``, untrained.

    Its layers have torchvision's names (``layer1``, ``layer2.0.conv1``, ``features.3``).

    Args:
        num_classes: Number of classes, 2 or more.
        in_channels: Channels of an image: 3, as torchvision's networks take them.
        image_size: Height and width of an image in pixels.
        name: The name in ``torchvision.models``.

    Raises:
        UserError: There is no such classifier, or the images are grey.
    """

    works_with_fast_path = True

    def __init__(
        self, num_classes: int = 10, in_channels: int = 3, image_size: int = 32, name: str = "resnet18"
    ) -> None:
        from torchvision import models  # a second's import that other networks do without

        super().__init__(num_classes, in_channels, image_size, name=name)
        if in_channels != 3:
            raise UserError(
                f"{name} of torchvision takes colour images, not {in_channels} channel(s); "
                "set --data.channels 3 or choose another network."
            )
        known = models.list_models(module=models)
        if name not in known:
            raise UserError(f"torchvision has no classifier '{name}'; choose one of {', '.join(known)}.")
        self.body: nn.Module = models.get_model(name, weights=None, num_classes=num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, (B, num_classes), of normalized images (B, 3, S, S)."""
        return self.body(images)  # type: ignore[no-any-return]

    def layer_root(self) -> nn.Module:
        """Return the module whose layers have torchvision's names."""
        return self.body
