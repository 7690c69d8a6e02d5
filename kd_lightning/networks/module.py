"""A user's own ``nn.Module`` as a network."""

from inspect import Parameter, signature
from pkgutil import resolve_name

from torch import nn

from kd_lightning.errors import UserError
from kd_lightning.networks.base import Network
from kd_lightning.networks.libraries import WrappedNetwork


class ModuleNetwork(WrappedNetwork):
    """Any ``nn.Module`` class of yours that turns images (B, C, H, W) into logits (B, num_classes), unchanged.

    It may return an object with ``logits``, as Hugging Face's networks do. Its layers keep their names.
    ``num_classes``, ``in_channels`` and ``image_size`` are passed to its constructor where it takes them.

    Args:
        num_classes: Number of classes, 2 or more.
        in_channels: Channels of an image: 1 (grey) or 3 (colour).
        image_size: Height and width of an image in pixels.
        module: Import path of the class, such as ``my_networks.Net``.
        arguments: Further arguments of its constructor.

    Raises:
        UserError: The class cannot be imported, is not an ``nn.Module``, or does not take the arguments.
    """

    def __init__(
        self,
        num_classes: int = 10,
        in_channels: int = 3,
        image_size: int = 32,
        module: str = "",
        arguments: dict[str, bool | int | float | str] | None = None,
    ) -> None:
        own = dict(arguments or {})
        super().__init__(num_classes, in_channels, image_size, **own)
        self.module = module
        kind = find_module(module, "network.module")
        known = {"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size}
        try:
            takes = signature(kind).parameters
            free = any(parameter.kind is Parameter.VAR_KEYWORD for parameter in takes.values())
            given = {name: value for name, value in known.items() if free or name in takes}
            self.body: nn.Module = kind(**{**given, **own})
        except (TypeError, ValueError) as error:
            raise UserError(f"{module} does not take its arguments ({error}); fix network.arguments.") from error

    @property
    def class_path(self) -> str:
        """The import path of the module's class, as files name it."""
        return self.module

    def rebuilt(self, **changed: bool | int | float | str) -> Network:
        """Return an untrained network of this kind with other arguments."""
        return build_module(self.module, **{**self.arguments, **changed})  # type: ignore[arg-type]


def build_module(
    path: str, num_classes: int, in_channels: int, image_size: int, **own: bool | int | float | str
) -> ModuleNetwork:
    """Build a class of modules from a network's ``arguments``."""
    return ModuleNetwork(num_classes, in_channels, image_size, path, own)


def find_module(path: str, option: str) -> type[nn.Module]:
    """Import a class of modules that an option names.

    Raises:
        UserError: There is no such class.
    """
    try:
        kind = resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"{option} is {path}, but there is no such class ({error}).") from error
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise UserError(f"{option} is {path}, which is not an nn.Module.")
    return kind
