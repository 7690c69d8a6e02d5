"""Layers by name: what they give in a pass through any network."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from difflib import get_close_matches
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kd_lightning.errors import UserError

Shapes = dict[str, tuple[int, ...]]
"""The shape of what each layer gives of one image, without the batch dimension; ``LOGITS`` names the logits."""

LOGITS = "the logits"
"""The name of a network's outputs, which no layer has."""

NAMED = 8
"""Layer names that a message lists at most."""


class LayerError(UserError):
    """A layer cannot be watched.

    Args:
        layer: The name that was asked for.
        sentence: Why not.
    """

    def __init__(self, layer: str, sentence: str) -> None:
        super().__init__(sentence)
        self.layer = layer


class Outputs(NamedTuple):
    """What a network gives of a batch.

    Attributes:
        logits: (B, num_classes).
        maps: What the tapped layers give, (B, ...) each, by the layer's name.
    """

    logits: Tensor
    maps: dict[str, Tensor]


class TappedNetwork:
    """Runs a network and shows what some of its layers give, in training as in evaluation mode.

    The layers are watched by forward hooks while a pass runs, and by nothing otherwise: the network is left as it is.

    Args:
        network: Turns images into logits.
        layers: Names of layers as ``named_modules`` has them, such as ``features`` or ``layer2.0.conv1``.
        root: The module in which the names are looked up; a ``Network``'s ``layer_root``.
        image_shape: (C, H, W), to try the layers on a blank image.

    Attributes:
        shapes: The shape of what each layer gives of one image, and of the logits.

    Raises:
        LayerError: A layer is not there, does not run exactly once in a pass, or gives no tensor.
    """

    def __init__(
        self, network: nn.Module, layers: Iterable[str], root: nn.Module, image_shape: tuple[int, int, int]
    ) -> None:
        self.network = network
        self.root = root
        self.names = tuple(dict.fromkeys(layers))
        for name in self.names:
            find_layer(root, name)
        self._overwritten: frozenset[str] = frozenset()
        self.shapes, self._overwritten = self._tried(image_shape)

    def __call__(self, images: Tensor) -> Outputs:
        """Return logits and maps of images (B, C, H, W)."""
        maps: dict[str, Tensor] = {}

        def keep(name: str, value: Tensor) -> None:
            maps[name] = value.clone() if name in self._overwritten else value  # a layer behind it works in place

        with self._watched(keep):
            logits = self.network(images)
        return Outputs(logits, maps)

    @torch.no_grad()
    def _tried(self, image_shape: tuple[int, int, int]) -> tuple[Shapes, frozenset[str]]:
        """Return the shapes of all outputs, and which of them later layers overwrite."""
        seen: dict[str, list[tuple[Any, int]]] = {name: [] for name in self.names}

        def look(name: str, value: Any) -> None:
            seen[name].append((value, value._version if isinstance(value, Tensor) else 0))

        parameter = next(self.network.parameters())
        image = torch.zeros((1, *image_shape), device=parameter.device, dtype=parameter.dtype)
        with torch.inference_mode(False), evaluated(self.network), self._watched(look):
            logits = self.network(image)
        for name, values in seen.items():
            self._require_one_tensor(name, [value for value, _ in values])
        shapes = {name: tuple(values[0][0].shape[1:]) for name, values in seen.items()}
        changed = frozenset(name for name, [(value, version)] in seen.items() if value._version != version)
        return {**shapes, LOGITS: tuple(logits.shape[1:])}, changed

    def _require_one_tensor(self, name: str, values: list[Any]) -> None:
        kind = type(self.network).__name__
        if len(values) != 1:
            times = f"runs {len(values)} times in a pass" if values else "does not run in a pass"
            raise LayerError(
                name, f"the layer '{name}' of {kind} {times}, but must run once; name the layer around it."
            )
        if not isinstance(values[0], Tensor):
            given = type(values[0]).__name__
            raise LayerError(
                name, f"the layer '{name}' of {kind} gives a {given} and no tensor; name a layer inside of it."
            )

    @contextmanager
    def _watched(self, keep: Any) -> Iterator[None]:
        with ExitStack() as stack:
            for name in self.names:
                layer = self.root.get_submodule(name)  # now: a layer may have been replaced by the one it folds into
                hook = layer.register_forward_hook(lambda _, __, value, name=name: keep(name, value))
                stack.callback(hook.remove)
            yield


def find_layer(network: nn.Module, name: str) -> nn.Module:
    """Return the layer of a name.

    Raises:
        LayerError: There is none; the nearest names are listed.
    """
    layers: dict[str, nn.Module] = {path: layer for path, layer in network.named_modules() if path}
    if name in layers:
        return layers[name]
    nearest = get_close_matches(name, layers, n=NAMED, cutoff=0.5) or [path for path in layers if "." not in path]
    kind, some = type(network).__name__, ", ".join(nearest[:NAMED])
    raise LayerError(name, f"{kind} has no layer '{name}'; name one of its layers, such as {some}.")


@contextmanager
def evaluated(network: nn.Module) -> Iterator[None]:
    """Run a block in evaluation mode, so that one blank image moves no running statistics; put every mode back."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
