"""The small contract that every network of this project follows."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import wraps
from typing import Any, Self

import torch
from torch import Tensor, nn


class Network(nn.Module, ABC):
    """An image classifier that also shows its feature map.

    A network of your own subclasses this, takes at least the three arguments below, passes them (and every further
    argument of its own, by keyword) to ``super().__init__`` and writes the two abstract methods. It then works in every
    task by its ``class_path``. On a GPU its steps become a CUDA graph if its class, and that of each layer that is not
    torch's own, says ``works_with_fast_path = True``: it reads nothing from Python that changes between steps.

    Args:
        num_classes: Number of classes, 2 or more.
        in_channels: Channels of an image: 1 (grey) or 3 (colour).
        image_size: Height and width of an image in pixels.
        further: What else the subclass's constructor took: plain values, kept to build the network again from a file.

    Attributes:
        needs_contiguous: Whether it cannot do with channels_last memory (it calls ``view``), and is given contiguous.
    """

    needs_contiguous = False

    def __init_subclass__(cls, **options: Any) -> None:
        """Let the subclass's methods have images and maps in the memory that it works with, whoever calls them."""
        super().__init_subclass__(**options)
        for name in ("feature_map", "classify", "forward"):
            if name in vars(cls):
                setattr(cls, name, _in_its_memory(vars(cls)[name]))

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

    @abstractmethod
    def feature_map(self, images: Tensor) -> Tensor:
        """Return the last feature map, ``(B, C, H, W)``, of normalized images ``(B, in_channels, S, S)``."""

    @abstractmethod
    def classify(self, feature_map: Tensor) -> Tensor:
        """Return the logits, ``(B, num_classes)``, of a feature map ``(B, C, H, W)``."""

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits, ``(B, num_classes)``, of normalized images ``(B, in_channels, S, S)``."""
        return self.classify(self.feature_map(images))

    def laid_out(self) -> Self:
        """Lay weights and inputs out in channels_last memory, which convolutions are fast with, or contiguously."""
        self.needs_contiguous = not self._takes_channels_last()
        return self.to(memory_format=torch.contiguous_format if self.needs_contiguous else torch.channels_last)

    @torch.no_grad()
    def _takes_channels_last(self) -> bool:
        """Try it on two blank images."""
        self.needs_contiguous = False
        training, parameter = self.training, next(self.parameters(), torch.zeros(1))
        size = (2, self.in_channels, self.image_size, self.image_size)
        images = torch.zeros(size, device=parameter.device, dtype=parameter.dtype)
        self.eval()  # blank images must not move running statistics
        try:
            self(images.contiguous(memory_format=torch.channels_last))
        except RuntimeError as error:
            return "view size is not compatible" not in str(error)
        finally:
            self.train(training)
        return True

    @torch.no_grad()
    def feature_shape(self) -> tuple[int, ...]:
        """Return the shape (C, H, W) of the feature map of one image."""
        training, parameter = self.training, next(self.parameters())
        self.eval()  # one blank image must not move running statistics
        size = (1, self.in_channels, self.image_size, self.image_size)
        shape = self.feature_map(torch.zeros(size, device=parameter.device, dtype=parameter.dtype)).shape
        self.train(training)
        return tuple(shape[1:])


def _in_its_memory(method: Callable[[Any, Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    """Return a network's method with its input made contiguous where the network needs that."""

    @wraps(method)
    def called(network: Network, values: Tensor) -> Tensor:
        return method(network, values.contiguous() if network.needs_contiguous else values)

    return called
