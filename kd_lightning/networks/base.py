"""The small contract that every network of this project follows."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import wraps
from typing import Any, Self

import torch
from torch import Tensor, nn

from kd_lightning.networks.trial import in_mode, trial_images


class Network(nn.Module, ABC):
    """An image classifier whose size is known and which can be built again from a file.

    A network of your own subclasses this, takes at least the three arguments below, passes them (and every further
    argument of its own, by keyword) to ``super().__init__`` and writes ``forward``. It then works in every task by its
    ``class_path``; losses watch its layers by their names. (A network that is an ``nn.Module`` and no more works too,
    as ``ModuleNetwork``.)

    On a GPU its steps become a CUDA graph if its class, and that of each layer that is not torch's own, says
    ``works_with_fast_path = True``: it reads nothing from Python that changes between steps.

    Args:
        num_classes: Number of classes, 2 or more.
        in_channels: Channels of an image: 1 (grey) or 3 (colour).
        image_size: Height and width of an image in pixels.
        further: What else the subclass's constructor took: plain values, kept to build the network again from a file.

    Attributes:
        needs_contiguous: Whether it cannot do with channels_last memory (it calls ``view``), and is given contiguous.
        came_with_weights: Whether its weights were loaded; then another form of it begins with them.
    """

    needs_contiguous = False

    def __init_subclass__(cls, **options: Any) -> None:
        """Let whoever calls the subclass give it images in the memory that it works with, and get its logits."""
        super().__init_subclass__(**options)
        if "forward" in vars(cls):
            cls.forward = _called(cls.forward)  # type: ignore[assignment, method-assign]

    def __init__(
        self, num_classes: int, in_channels: int, image_size: int, **further: bool | int | float | str
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.image_size = image_size
        self.arguments: dict[str, bool | int | float | str] = {
            "num_classes": num_classes,
            "in_channels": in_channels,
            "image_size": image_size,
            **further,
        }
        self.came_with_weights = False
        self.register_load_state_dict_post_hook(_note_weights)  # type: ignore[no-untyped-call]

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copy the network; what the last pass has left in it (as ``weight_norm`` does) is copied without its graph."""
        for module in self.modules():
            for name, value in vars(module).items():
                if isinstance(value, Tensor) and value.grad_fn is not None:
                    vars(module)[name] = value.detach()
        copied = type(self).__new__(type(self))
        memo[id(self)] = copied
        vars(copied).update(deepcopy(vars(self), memo))
        return copied

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, ``(B, num_classes)``, of normalized images ``(B, in_channels, S, S)``.

        Something that has them as its ``logits`` may be returned, too: callers get the logits alone.
        """

    @property
    def class_path(self) -> str:
        """The import path of the class that files name."""
        return f"{type(self).__module__}.{type(self).__qualname__}"

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of an image."""
        return self.in_channels, self.image_size, self.image_size

    def rebuilt(self, **changed: bool | int | float | str) -> "Network":
        """Return an untrained network of this kind with other arguments."""
        return type(self)(**{**self.arguments, **changed})  # type: ignore[arg-type]

    def layer_root(self) -> nn.Module:
        """Return the module in which layers are looked up by their names; a wrapper returns what it wraps."""
        return self

    def to_channels_last(self) -> Self:
        """Lay weights and inputs out in channels_last memory, which convolutions are fast with, or contiguously."""
        self.needs_contiguous = not self._takes_channels_last()
        return self.to(memory_format=torch.contiguous_format if self.needs_contiguous else torch.channels_last)

    @torch.no_grad()
    def _takes_channels_last(self) -> bool:
        """Try it on two blank images."""
        self.needs_contiguous = False
        images = trial_images(self, 2, self.image_shape)
        try:
            with in_mode(self, training=False):
                self(images.contiguous(memory_format=torch.channels_last))
        except RuntimeError as error:
            return "view size is not compatible" not in str(error)
        return True


def _note_weights(network: Network, _: object) -> None:
    network.came_with_weights = True


def _called(method: Callable[[Any, Tensor], Any]) -> Callable[[Any, Tensor], Any]:
    """Return a network's method with its input made contiguous where the network needs that, and its logits alone."""

    @wraps(method)
    def called(network: Network, values: Tensor) -> Any:
        return logits_of(method(network, values.contiguous() if network.needs_contiguous else values))

    return called


def logits_of(output: Any) -> Any:
    """Return the ``logits`` of a larger output, such as one of Hugging Face's, and anything else as it is."""
    if isinstance(output, Mapping) and "logits" in output:
        return output["logits"]
    return getattr(output, "logits", output)
