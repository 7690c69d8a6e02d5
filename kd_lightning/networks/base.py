"""The interface of every network."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import wraps
from typing import Any, Self

import torch
from torch import Tensor, nn

from kd_lightning.data.normalize import Normalization
from kd_lightning.networks.trial import evaluate, trial_images


class Network(nn.Module, ABC):
    """An image classifier whose size is known and which can be built again from a file.

    A custom network subclasses this, takes at least the three arguments below, passes them (and its further arguments,
    by keyword) to ``super().__init__`` and implements ``forward``. It then works in every task by its ``class_path``;
    losses read its layers by their names. (A plain ``nn.Module`` works too, as a ``ModuleNetwork``.)

    On a GPU its steps become a CUDA graph if its class, and the class of each layer that is not torch's own, sets
    ``works_with_fast_path = True``: it reads no Python state that changes between steps.

    Args:
        num_classes: Number of classes, 2 or more.
        in_channels: Channels of an image: 1 (grey) or 3 (colour).
        image_size: Height and width of an image in pixels.
        further: Further arguments of the subclass's constructor: plain values, saved to build the network again from a
            file.

    Attributes:
        needs_contiguous: Whether it needs contiguous memory: it cannot run with channels_last, as it calls ``view``.
        came_with_weights: Whether its weights were loaded; its re-parameterized form then begins with them.
        normalization: Of the images that its library's weights were trained on; ``None`` where there are none, and once
            it is trained here.
        distillation_head: The layer whose logits learn from a teacher's, where the network has one as DeiT has.
        separate_heads: Whether its logits in training are those of its other last layer alone, which learns from the
            labels.
    """

    needs_contiguous = False
    normalization: Normalization | None = None
    distillation_head: str | None = None
    separate_heads = False

    def __init_subclass__(cls, **options: Any) -> None:
        """Wrap ``forward``: its input gets the memory format that it needs, and only its logits are returned."""
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
        """Copy the network; tensors that a pass left in it (as ``weight_norm`` does) are copied without their graph."""
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

        It may also return an object with ``logits``: callers get only these.
        """

    @property
    def class_path(self) -> str:
        """The import path of the class, as files name it."""
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
        """Use channels_last memory for weights and inputs, fast for convolutions; contiguous memory if that fails."""
        self.needs_contiguous = not self._takes_channels_last()
        return self.to(memory_format=torch.contiguous_format if self.needs_contiguous else torch.channels_last)

    def _takes_channels_last(self) -> bool:
        """Try channels_last memory on two blank images."""
        self.needs_contiguous = False
        images = trial_images(self, 2, self.image_shape)
        try:
            evaluate(self, images.contiguous(memory_format=torch.channels_last))
        except RuntimeError as error:
            return "view size is not compatible" not in str(error)
        return True


def _note_weights(network: Network, _: object) -> None:
    network.came_with_weights = True


def _called(method: Callable[[Any, Tensor], Any]) -> Callable[[Any, Tensor], Any]:
    """Return a method that makes its input contiguous where the network needs that, and returns only the logits."""

    @wraps(method)
    def called(network: Network, values: Tensor) -> Any:
        return logits_of(method(network, values.contiguous() if network.needs_contiguous else values))

    return called


def logits_of(output: Any) -> Any:
    """Return the ``logits`` of a structured output, such as Hugging Face's, and any other output as it is."""
    if isinstance(output, Mapping) and "logits" in output:
        return output["logits"]
    return getattr(output, "logits", output)
