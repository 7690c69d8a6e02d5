"""Build the network that a weight file names, no larger than the file's weights allow."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as registration
from torch.nn.parameter import is_lazy

from kd_lightning.errors import UserError
from kd_lightning.networks import ModuleNetwork, Network
from kd_lightning.networks.layers import evaluated
from kd_lightning.networks.module import find_module

SPARE_VALUES, SPARE_MODULES = 2**22, 1000
"""What a network may have beyond its weights: tables that are not saved, layers without weights."""


TOO_LARGE = "with its arguments it would be far larger than its weights"


class TooLargeError(ValueError):
    """The network would have far more weights than its file."""


def find_network(found: str, named: str | None, source: str) -> Callable[..., Network]:
    """Return what builds a network. Only a class that the user names is imported, never one that only a file names.

    Args:
        found: Import path in the file.
        named: Import path that the user gives; ``None`` searches the classes that are already imported.
        source: The file's name, for messages.

    Raises:
        UserError: There is no such class, or it is not the file's.
    """
    if named is None:
        known = {f"{kind.__module__}.{kind.__qualname__}": kind for kind in _subclasses(Network) - {ModuleNetwork}}  # type: ignore[type-abstract]
        if found not in known:
            raise UserError(
                f"{source} was trained with the network {found}, which is not known here; name its class, as in "
                f"`--network {found}` or with an import before predicting from Python, or use the run's ONNX file."
            )
        return known[found]
    kind = find_module(named, "--network")
    if kind.__name__ != found.rpartition(".")[2]:
        raise UserError(f"{source} was trained with the network {found}, but --network is {named}; name that class.")
    return kind if issubclass(kind, Network) else partial(_of_module, named)


def _of_module(
    path: str, num_classes: int, in_channels: int, image_size: int, **own: bool | int | float | str
) -> ModuleNetwork:
    return ModuleNetwork(num_classes, in_channels, image_size, path, own)


def builder_of(network: Network) -> Callable[..., Network]:
    """Return what builds networks of the same class."""
    return partial(_of_module, network.module) if isinstance(network, ModuleNetwork) else type(network)


def build_network(kind: Callable[..., Network], arguments: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Network:
    """Build a network with a file's arguments, first on the meta device to check its size.

    Raises:
        TooLargeError: It has far more weights than the file.
        Exception: Whatever its constructor raises for these arguments.
    """
    named = 4 * sum(tensor.numel() for tensor in weights.values()) + SPARE_VALUES
    unique = 4 * _unique_values(weights.values()) + SPARE_VALUES  # less where names share storage
    modules = 16 * len(weights) + SPARE_MODULES
    with _at_most(named, modules), torch.device("meta"):
        trial = _try_build(kind, arguments)
    if trial is not None and sum(tensor.numel() for tensor in _tensors(trial)) > unique:
        raise TooLargeError(TOO_LARGE)
    with _at_most(unique if trial is None else named, modules):
        return _with_shapes(kind(**arguments))


def _unique_values(tensors: Iterable[Tensor]) -> int:
    """Return how many values tensors have in total; shared values count once."""
    storages = {tensor.untyped_storage().data_ptr(): tensor for tensor in tensors}
    return sum(tensor.untyped_storage().nbytes() // tensor.itemsize for tensor in storages.values())


def _tensors(network: Network) -> list[Tensor]:
    return [tensor for tensor in (*network.parameters(), *network.buffers()) if not is_lazy(tensor)]


@torch.no_grad()
def _with_shapes(network: Network) -> Network:
    """Initialize lazy layers, which take their shapes from the first image."""
    if any(is_lazy(tensor) for tensor in (*network.parameters(), *network.buffers())):
        with evaluated(network):
            network(torch.zeros((1, *network.image_shape)))
    return network


@contextmanager
def _at_most(values: int, modules: int) -> Iterator[None]:
    """Stop a constructor at the first tensor or module beyond a limit."""
    left = {"values": values, "modules": modules}

    def take(what: str, count: int) -> None:
        left[what] -= count
        if left[what] < 0:
            raise TooLargeError(TOO_LARGE)

    def tensor(_: nn.Module, __: str, added: Tensor | None) -> None:
        take("values", 0 if added is None or is_lazy(added) else added.numel())

    def module(_: nn.Module, __: str, ___: nn.Module | None) -> None:
        take("modules", 1)

    hooks = [
        registration.register_module_parameter_registration_hook(tensor),
        registration.register_module_buffer_registration_hook(tensor),
        registration.register_module_module_registration_hook(module),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _try_build(kind: Callable[..., Network], arguments: Mapping[str, Any]) -> Network | None:
    """Build a network on the meta device; ``None`` where it cannot be built there, as some networks read values."""
    try:
        return kind(**arguments)
    except TooLargeError:
        raise
    except Exception:
        return None


def _subclasses(kind: type[Network]) -> set[type[Network]]:
    return {kind}.union(*(_subclasses(sub) for sub in kind.__subclasses__()))
