"""DeepNN and LightNN: the teacher and the student of PyTorch's knowledge distillation tutorial."""

from torch import Tensor, nn
from torch.nn import functional

from kd_lightning.errors import UserError
from kd_lightning.networks.base import Network
from kd_lightning.networks.fusable import FusableLayer


class _Convolutions(nn.Sequential):
    """Convolutions with ReLU, some followed by a pooling; in training, bias and ReLU come after the pooling.

    Both orders give the same values and gradients up to rounding: the largest value stays the largest. After the
    pooling there is a quarter of the values, and the gradient of a separately added bias takes a tenth of the time that
    a CPU's convolutions spend on it: LightNN's step takes two thirds of the time. An exported network keeps the order
    of the layers, in which runtimes merge a convolution with its bias and ReLU. So does one whose layers have hooks:
    these read the same in training as in evaluation mode.
    """

    def forward(self, values: Tensor) -> Tensor:
        """Return the last layer's output."""
        layers = list(self)
        if not self.training or any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers):
            return super().forward(values)  # type: ignore[no-untyped-call, no-any-return]
        for layer, second_next in zip(layers, [*layers[2:], None, None], strict=True):
            if isinstance(layer, nn.Conv2d):
                values = functional.conv2d(values, layer.weight, padding=layer.padding)
            elif isinstance(layer, FusableLayer):
                values = layer.apply_weight(values, layer.weight())
            else:
                continue
            if isinstance(second_next, nn.MaxPool2d):
                values = second_next(values)
            values = _with_bias(values, layer).relu_()
        return values


def _with_bias(values: Tensor, layer: nn.Conv2d | FusableLayer) -> Tensor:
    """Add a layer's bias to its weight's output, after a normalization where it has one."""
    if isinstance(layer, FusableLayer):
        return layer.add_bias(values)
    assert layer.bias is not None
    return values.add_(layer.bias.view(-1, 1, 1))


def _convolutions(in_channels: int, plan: tuple[int | str, ...]) -> _Convolutions:
    """Build 3x3 convolutions with ReLU; ``"M"`` in the plan is 2x2 max pooling."""
    layers: list[nn.Module] = []
    for step in plan:
        if isinstance(step, str):
            layers.append(nn.MaxPool2d(kernel_size=2, stride=2))
        else:
            layers += [nn.Conv2d(in_channels, step, kernel_size=3, padding=1), nn.ReLU()]
            in_channels = step
    return _Convolutions(*layers)


class _TutorialNetwork(Network):
    """Shared code of DeepNN and LightNN: ``features`` gives the map (B, C, S/4, S/4), ``classifier`` the logits.

    Args:
        num_classes: Number of classes, 2 or more.
        in_channels: Channels of an image: 1 (grey) or 3 (colour).
        image_size: Height and width of an image in pixels, 4 or more.
        dropout: Share of the hidden values that training drops, in [0, 1).

    Raises:
        UserError: The dropout is out of range.
    """

    plan: tuple[int | str, ...]
    channels: int
    hidden: int

    def __init__(self, num_classes: int = 10, in_channels: int = 3, image_size: int = 32, dropout: float = 0.1) -> None:
        super().__init__(num_classes, in_channels, image_size, dropout=dropout)
        if not 0 <= dropout < 1:
            raise UserError(f"--model.network.dropout is {dropout:g}, but it must be in [0, 1).")
        self.features = _convolutions(in_channels, self.plan)
        self.classifier = nn.Sequential(
            nn.Linear(self.channels * (image_size // 4) ** 2, self.hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(self.hidden, num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, (B, num_classes), of normalized images (B, in_channels, S, S)."""
        return self.classifier(self.features(images).flatten(1))  # type: ignore[no-any-return]


class DeepNN(_TutorialNetwork):
    """The teacher of PyTorch's tutorial: four convolutions, a hidden layer of 512; 1,186,986 parameters for CIFAR-10.

    ``features`` gives 32 channels at a quarter of the image's height and width.
    """

    plan = (128, 64, "M", 64, 32, "M")
    channels, hidden = 32, 512


class LightNN(_TutorialNetwork):
    """The student of PyTorch's tutorial: two convolutions, a hidden layer of 256; 267,738 parameters for CIFAR-10.

    ``features`` gives 16 channels at a quarter of the image's height and width.
    """

    plan = (16, "M", 16, "M")
    channels, hidden = 16, 256
