"""Build the network that a weight file names, no larger than the file's weights allow."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook
from torch.nn.parameter import is_lazy

from kd_lightning.errors import UserError
from kd_lightning.networks import ModuleNetwork, Network
from kd_lightning.networks.module import build_module, find_module
from kd_lightning.networks.trial import evaluate, trial_images

SPARE_VALUES, SPARE_MODULES = 2**22, 1000
"""What a network may have beyond its weights: tables that are not saved, layers without weights."""


class TooLargeError(ValueError):
    """The network would have far more weights or layers than its file."""

    def __init__(self) -> None:
        super().__init__("with its arguments it would be far larger than its weights")


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
    return kind if issubclass(kind, Network) else partial(build_module, named)


def _subclasses(kind: type[Network]) -> set[type[Network]]:
    return {kind}.union(*(_subclasses(sub) for sub in kind.__subclasses__()))


def build_network(kind: Callable[..., Network], arguments: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Network:
    """Build a network with a file's arguments, first on the meta device to check its size.

    Raises:
        TooLargeError: It has far more weights or layers than the file.
        Exception: Whatever its constructor raises for these arguments.
    """
    with _at_most_modules(16 * len(weights) + SPARE_MODULES):
        try:
            with torch.device("meta"):
                trial = kind(**arguments)
        except TooLargeError:
            raise
        except Exception:  # some constructors read values, which the meta device does not have
            trial = None
        if trial is not None and _count(_tensors(trial)) > 4 * _count_stored(weights.values()) + SPARE_VALUES:
            raise TooLargeError
        return _with_shapes(kind(**arguments))


@contextmanager
def _at_most_modules(count: int) -> Iterator[None]:
    """Stop a constructor at the first module beyond a limit."""
    added: list[str] = []

    def count_module(_: nn.Module, name: str, __: nn.Module | None) -> None:
        added.append(name)
        if len(added) > 2 * count:  # the network is built twice
            raise TooLargeError

    hook = register_module_module_registration_hook(count_module)
    try:
        yield
    finally:
        hook.remove()


def _tensors(network: Network) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]


def _count(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors if not is_lazy(tensor))


def _count_stored(tensors: Iterable[Tensor]) -> int:
    """Return how many values tensors have in total; shared values count once."""
    storages = {tensor.untyped_storage().data_ptr(): tensor for tensor in tensors}
    return sum(tensor.untyped_storage().nbytes() // tensor.itemsize for tensor in storages.values())


def _with_shapes(network: Network) -> Network:
    """Initialize lazy layers, which take their shapes from the first image."""
    if any(map(is_lazy, _tensors(network))):
        evaluate(network, trial_images(network, 1, network.image_shape))
    return network
