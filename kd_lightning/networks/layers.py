"""Layers by name: extract their outputs in a pass through any network."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from difflib import get_close_matches
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kd_lightning.errors import UserError
from kd_lightning.networks.base import logits_of
from kd_lightning.networks.token_maps import Layout, possible_layouts
from kd_lightning.networks.trial import in_mode, require_logits, trial_images
from kd_lightning.wording import counted

Shapes = dict[str, tuple[int, ...]]
"""The shape of each layer's output, without the batch dimension; ``LOGITS`` names the logits."""

LOGITS = ".logits"
"""The name of a network's output. No layer clashes with it: a layer's path never begins with a dot."""

MAX_NAMES = 8
"""Largest number of layer names that a message lists."""


class LayerError(UserError):
    """A layer's output cannot be extracted.

    Args:
        layer: The requested name.
        sentence: Why not.
    """

    def __init__(self, layer: str, sentence: str) -> None:
        super().__init__(sentence)
        self.layer = layer


class Outputs(NamedTuple):
    """A network's outputs for a batch.

    Attributes:
        logits: (B, num_classes).
        maps: The outputs of the extracted layers, (B, ...) each, by the layer's name.
    """

    logits: Tensor
    maps: dict[str, Tensor]

    def only(self, layers: Iterable[str]) -> "Outputs":
        """Return the same with only some of the layers."""
        return Outputs(self.logits, {name: self.maps[name] for name in layers})


class Seen(NamedTuple):
    """A layer's output in a pass.

    Attributes:
        value: A tensor, or any other output.
        version: The tensor's version counter; ``None`` where there is none.
        grad: Whether autograd was on.
    """

    value: Any
    version: int | None
    grad: bool


class FeatureExtractor:
    """Runs a network and returns the outputs of some of its layers, in training and in evaluation mode.

    Forward hooks on the layers exist only while a pass runs: the network stays unchanged. For a layer whose output is
    the logits themselves, the network's own logits are returned, in the order of its classes. Tokens (B, N, C) of a
    transformer, and maps (B, H, W, C), are returned as maps (B, C, H, W): see ``possible_layouts``.

    Args:
        network: The model that turns images into logits.
        layers: Names of layers as ``named_modules`` has them, such as ``features`` or ``layer2.0.conv1``.
        root: The module in which the names are looked up; a ``Network``'s ``layer_root``.
        image_shape: (C, H, W), to try the network on blank images.

    Attributes:
        shapes: The shape of each layer's output, and of the logits, without the batch dimension.
        layouts: How the outputs that are no maps (B, C, H, W) become such, by the layer's name.

    Raises:
        LayerError: A layer does not exist, does not run exactly once in a pass, does not give a tensor of the batch,
            runs without gradients, or gives tokens of which it is not clear which are the positions of a map.
        UserError: The network does not return logits.
    """

    def __init__(
        self, network: nn.Module, layers: Iterable[str], root: nn.Module, image_shape: tuple[int, int, int]
    ) -> None:
        self.network = network
        self.root = root
        self.kind = type(root).__name__
        self.names = tuple(dict.fromkeys(layers))
        for name in self.names:
            find_layer(root, name)
        self._overwritten: set[str] = set()
        self._logits = set(self.names)
        self._layouts: dict[str, Layout | None] = {}
        self.shapes = self._try(trial_images(network, 1, image_shape), training=False)  # as in prediction
        self._try(trial_images(network, 2, image_shape), training=False)
        if any(values.requires_grad for values in network.parameters()):  # a teacher is never in training mode
            self._try(trial_images(network, 2, image_shape), training=True)
        self.layouts = {name: layout for name, layout in self._layouts.items() if layout}

    def __call__(self, images: Tensor) -> Outputs:
        """Return logits and maps of images (B, C, H, W).

        Raises:
            LayerError: A layer behaves differently in this pass than in the trial.
        """
        logits, seen = self._run(images)
        for name in _changed(seen):
            raise self._error(name, "is overwritten by a later layer in some passes and not in others")
        maps = {name: layer.value for name, layer in seen.items()}
        maps |= {name: logits.view(maps[name].shape) for name in self._logits}
        return Outputs(logits, maps | {name: layout.to_map(maps[name]) for name, layout in self.layouts.items()})

    def layout_lines(self) -> list[str]:
        """Return a line for each layer whose output becomes a map."""
        return [
            f"'{name}' of {self.kind} gives {layout.given_text}, read as {layout}"
            for name, layout in self.layouts.items()
        ]

    def _run(self, images: Tensor) -> tuple[Tensor, dict[str, Seen]]:
        """Return the logits, and each layer's output."""
        seen: dict[str, list[Seen]] = {name: [] for name in self.names}

        def keep(name: str, value: Any) -> None:
            kept = value.clone() if name in self._overwritten else value
            seen[name].append(Seen(kept, _version(kept), torch.is_grad_enabled()))

        with self._hooked(keep):
            logits = self.network(images)
        for name, found in seen.items():
            self._require_one_tensor(name, found, len(images))
        return logits, {name: found[0] for name, found in seen.items()}

    def _try(self, images: Tensor, training: bool) -> Shapes:
        """Return the shapes of all outputs; find those that later layers overwrite, and those that are the logits."""
        output: list[Any] = []
        with (
            torch.inference_mode(False),
            torch.set_grad_enabled(training),
            in_mode(self.network, training),
            self.root.register_forward_hook(lambda _, __, value: output.append(logits_of(value))),
        ):
            logits, seen = self._run(images)
        require_logits(self.kind, logits, images, training)
        self._overwritten |= set(_changed(seen))
        is_logits = {name for name, layer in seen.items() if any(_is_same(layer.value, given) for given in output)}
        self._logits &= is_logits - self._overwritten
        shapes = {name: self._map_shape(name, tuple(layer.value.shape[1:])) for name, layer in seen.items()}
        return {LOGITS: tuple(logits.shape[1:])} | shapes

    def _map_shape(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the map that a layer's output becomes, or that of the output; note how it becomes one."""
        found = possible_layouts(shape, self.root)
        if len(found) > 1:
            raise self._error(
                name,
                f"gives {shape[0]} tokens, which are {' or '.join(map(str, found))}",
                "say in an attribute num_prefix_tokens of the network how many others it has",
            )
        layout = found[0] if found else None
        if self._layouts.setdefault(name, layout) != layout:
            raise self._error(name, "gives other tokens in training than in evaluation", "name another layer")
        return layout.shape if layout else shape

    def _require_one_tensor(self, name: str, seen: list[Seen], count: int) -> None:
        where = "in a training pass" if self.network.training else "in a pass"
        if len(seen) != 1:
            times = f"runs {len(seen)} times {where}" if seen else f"does not run {where}"
            raise self._error(name, f"{times}, but must run once")
        value, grad = seen[0].value, seen[0].grad
        if not isinstance(value, Tensor):
            raise self._error(name, f"gives a {type(value).__name__}, not a tensor", "name a layer inside it")
        if value.shape[:1] != (count,):
            raise self._error(name, f"gives a tensor of shape {tuple(value.shape)} for {counted(count, 'image')}")
        if torch.is_grad_enabled() and not grad:
            raise self._error(
                name,
                "runs without gradients (in torch.no_grad, or in torch.utils.checkpoint with use_reentrant=True), so "
                "that no loss on it would reach the network",
                "set use_reentrant=False, or name another layer",
            )

    def _error(self, name: str, what: str, fix: str = "name the layer around it") -> LayerError:
        return LayerError(name, f"the layer '{name}' of {self.kind} {what}; {fix}.")

    @contextmanager
    def _hooked(self, keep: Callable[[str, Any], None]) -> Iterator[None]:
        with ExitStack() as stack:
            for name in self.names:
                layer = self.root.get_submodule(name)  # looked up now: fusing replaces layers
                hook = layer.register_forward_hook(lambda _, __, value, name=name: keep(name, value))
                stack.callback(hook.remove)
            yield


def _version(value: Any) -> int | None:
    """Return a tensor's version counter; ``None`` where there is none."""
    counts = isinstance(value, Tensor) and not torch.compiler.is_compiling() and not value.is_inference()
    return value._version if counts else None


def _changed(seen: Mapping[str, Seen]) -> Iterator[str]:
    """Yield the layers whose outputs were overwritten later."""
    for name, layer in seen.items():
        if layer.version is not None and layer.version != _version(layer.value):
            yield name


def _is_same(value: Tensor, logits: Any) -> bool:
    """Return whether a layer's output is the logits themselves, in any shape."""
    flat = value.reshape(len(value), -1)
    place = flat.data_ptr(), flat.shape, flat.stride()
    return isinstance(logits, Tensor) and place == (logits.data_ptr(), logits.shape, logits.stride())


def find_layer(network: nn.Module, name: str) -> nn.Module:
    """Return the layer with a name.

    Raises:
        LayerError: There is none; the message lists the nearest names.
    """
    layers: dict[str, nn.Module] = {path: layer for path, layer in network.named_modules() if path}
    if name in layers:
        return layers[name]
    nearest = get_close_matches(name, layers, n=MAX_NAMES, cutoff=0.5) or [path for path in layers if "." not in path]
    kind, some = type(network).__name__, ", ".join(nearest[:MAX_NAMES])
    raise LayerError(name, f"{kind} has no layer '{name}'; name one of its layers, such as {some}.")
