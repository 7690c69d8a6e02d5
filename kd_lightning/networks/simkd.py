"""SimKDStudent: a student that ends in a projector and its teacher's last layer."""

import ast

import torch
from torch import Tensor, nn

from kd_lightning.errors import UserError
from kd_lightning.networks.base import Network
from kd_lightning.networks.blocks import require_option
from kd_lightning.networks.fusable import FusableLayer
from kd_lightning.networks.last_layer import weight_of
from kd_lightning.networks.layers import find_layer
from kd_lightning.networks.mobilenet import MobileNetV2
from kd_lightning.networks.resnet import ResNet
from kd_lightning.networks.resnet9 import ResNet9
from kd_lightning.networks.shufflenet import ShuffleNetV1, ShuffleNetV2
from kd_lightning.networks.trial import evaluate, trial_images
from kd_lightning.networks.tutorial import DeepNN, LightNN
from kd_lightning.networks.vgg import VGG
from kd_lightning.networks.wide_resnet import WideResNet
from kd_lightning.wording import shortened

KINDS: tuple[type[Network], ...] = (
    *(ResNet, ResNet9, WideResNet, VGG, MobileNetV2, ShuffleNetV1, ShuffleNetV2),
    *(LightNN, DeepNN),
)

STUDENTS = {kind.__name__: kind for kind in KINDS}
"""The networks that can be a student."""


class _Projected(nn.Module):
    """A layer, the projector of its map to the teacher's channels, and the mean over the positions.

    Args:
        layer: Gives maps.
        channels: Of these maps.
        target: Channels of the teacher's map.
        inner: Channels within the projector.
    """

    def __init__(self, layer: nn.Module, channels: int, target: int, inner: int) -> None:
        super().__init__()
        self.layer = layer
        self.projector = nn.Sequential(
            nn.Conv2d(channels, inner, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, inner, 3, padding=1, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(),
            nn.Conv2d(inner, target, 1, bias=False),
            nn.BatchNorm2d(target),
            nn.ReLU(),
        )

    def forward(self, values: Tensor) -> Tensor:
        """Return the means of the projected map, (B, target, 1, 1)."""
        return self.projector(self.layer(values)).mean((2, 3), keepdim=True)  # type: ignore[no-any-return]


class SimKDStudent(Network):
    """Another network that ends in a projector and the teacher's last layer, for the loss ``SimKD``.

    After ``layer`` come a 1x1, a 3x3 and a 1x1 convolution, each with BatchNorm and ReLU, to the teacher's channels,
    and the mean over the map; ``classifier`` is a linear layer of these channels. ``SimKD`` gives it the teacher's
    weights and freezes it; the whole is saved and exported. ``layer3.projector`` is the projector's map where ``layer``
    is ``layer3``; other layers keep their names up to ``layer``.

    Chen et al. 2022, https://arxiv.org/abs/2203.14001.

    Args:
        num_classes: Number of classes, 2 or more.
        in_channels: Channels of an image: 1 (grey) or 3 (colour).
        image_size: Height and width of an image in pixels.
        student: The other network with its options, such as ``ResNet(depth=8, width=4)``.
        layer: Its last layer that gives a map, after its ReLU.
        classifier: Its layer that makes logits of the pooled map, which the teacher's last layer replaces.
        channels: Channels of the teacher's last map, which its last layer takes.
        factor: The projector has ``channels / factor`` channels between its convolutions; 1, 2, 4 or 8.

    Raises:
        UserError: There is no such network or layer, or something between the two layers changes their values.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: int = 32,
        student: str = "ResNet(depth=20)",
        layer: str = "layer3",
        classifier: str = "fc",
        channels: int = 64,
        factor: int = 2,
    ) -> None:
        own = {"student": student, "layer": layer, "classifier": classifier, "channels": channels, "factor": factor}
        super().__init__(num_classes, in_channels, image_size, **own)  # type: ignore[arg-type]
        require_option(self, "factor", factor, factor >= 1, "1 or more")
        require_option(self, "channels", channels, channels >= factor, "factor or more")
        self.student = _built(student, num_classes, in_channels, image_size)
        self._layer, self._classifier = layer, classifier
        projected = _Projected(find_layer(self.layer_root(), layer), self._channels(), channels, channels // factor)
        _replace(self.layer_root(), layer, projected)
        find_layer(self.layer_root(), classifier)
        _replace(self.layer_root(), classifier, nn.Linear(channels, num_classes))
        self._check()

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, (B, num_classes), of normalized images (B, in_channels, S, S)."""
        return self.student(images)  # type: ignore[no-any-return]

    def layer_root(self) -> nn.Module:
        """Return the student, whose layers have its own names."""
        return self.student.layer_root()

    @torch.no_grad()
    def take(self, last: nn.Linear | FusableLayer, order: Tensor | None) -> None:
        """Take a teacher's last layer, and freeze it.

        Args:
            last: The layer.
            order: The places of the classes in its outputs; ``None`` where they are the same.

        Raises:
            UserError: It is of another size.
        """
        own, weight = self.layer_root().get_submodule(self._classifier), weight_of(last)
        assert isinstance(own, nn.Linear)
        if own.weight.shape != weight.shape:
            raise UserError(
                f"the teacher's last layer takes {weight.shape[1]} channels, but --model.network.channels is "
                f"{own.weight.shape[1]}; set it to {weight.shape[1]}."
            )
        bias = weight.new_zeros(len(weight)) if last.bias is None else last.bias
        places = slice(None) if order is None else order.to(weight.device)
        own.weight.copy_(weight[places])
        own.bias.copy_(bias[places])
        own.requires_grad_(False)

    def _channels(self) -> int:
        """Return the channels of the student's map."""
        [values] = self._seen({self._layer: False})
        if values.ndim != 4:
            raise UserError(
                f"--model.network.layer is {self._layer}, but SimKDStudent needs a layer that gives maps of channels, "
                f"height and width, not {tuple(values.shape[1:])}; name the last one before pooling."
            )
        return values.shape[1]

    def _check(self) -> None:
        """Refuse a student in which something else is between the projector and the classifier, or after that."""
        option = f"--model.network.layer is {self._layer} and --model.network.classifier {self._classifier}"
        fix = "name the last map after its ReLU and what makes logits of its means"
        try:
            projected, given, logits = self._seen({self._layer: False, self._classifier: True, "": False})
            made = self.layer_root().get_submodule(self._classifier)(projected.flatten(1))
        except RuntimeError as error:
            raise UserError(f"{option}, but what is between them does not take a map of one place; {fix}.") from error
        if not given.is_meta and not (torch.equal(given, projected.flatten(1)) and torch.equal(made, logits)):
            raise UserError(f"{option}, but more than pooling is between them, or something after; {fix}.")

    def _seen(self, layers: dict[str, bool]) -> list[Tensor]:
        """Return what some layers give for an image in evaluation mode, or get, where the value is true."""
        found: dict[str, Tensor] = {}
        images = trial_images(self.student, 1, self.image_shape)
        images = images + torch.linspace(-1, 1, images.numel(), device=images.device).view_as(images)

        def keep(name: str, given: Tensor, made: Tensor) -> None:
            found[name] = given if layers[name] else made

        hooks = [
            self.layer_root().get_submodule(name).register_forward_hook(lambda _, i, o, name=name: keep(name, i[0], o))
            for name in layers
        ]
        try:
            evaluate(self.student, images)
        finally:
            for hook in hooks:
                hook.remove()
        return [found[name] for name in layers]


def _built(text: str, num_classes: int, in_channels: int, image_size: int) -> Network:
    """Build one of our networks from its name and options, which are plain values: a file may have named them.

    Raises:
        UserError: There is no such network, or it does not take the options.
    """
    problem = f"--model.network.student is {shortened(repr(text), 100)}"
    try:
        call = ast.parse(text, mode="eval").body
        name, given = (call.func, call.keywords) if isinstance(call, ast.Call) and not call.args else (call, [])
        kind = STUDENTS[name.id if isinstance(name, ast.Name) else ""]
        options = {str(each.arg): ast.literal_eval(each.value) for each in given}
        return kind(num_classes=num_classes, in_channels=in_channels, image_size=image_size, **options)
    except (SyntaxError, ValueError, KeyError) as error:
        known = ", ".join(STUDENTS)
        raise UserError(f"{problem}, but must be one of {known}, with options as in 'ResNet(depth=8)'.") from error
    except TypeError as error:
        raise UserError(f"{problem}, but {kind.__name__} does not take these options ({error}).") from error


def _replace(root: nn.Module, name: str, other: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(root.get_submodule(parent), last, other)
