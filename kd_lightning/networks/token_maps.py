"""Tokens of transformers, and maps with their channels last, as maps (B, C, H, W)."""

from math import isqrt
from typing import NamedTuple

from torch import Tensor, nn

USUAL_PREFIXES = (0, 1, 2, 5)
"""Tokens in front of those of an image's patches: none, a class token, also DeiT's distillation token, or a class token
and four registers."""


class Layout(NamedTuple):
    """How a layer's output becomes a map.

    Attributes:
        given: The output's shape without the batch dimension: tokens (N, C), or a map (H, W, C).
        prefix: Tokens in front that belong to no position of the image, and are left out; 0 for a map.
    """

    given: tuple[int, ...]
    prefix: int = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of the map."""
        if len(self.given) == 3:
            return self.given[2], self.given[0], self.given[1]
        side = isqrt(self.given[0] - self.prefix)
        return self.given[1], side, side

    @property
    def given_text(self) -> str:
        """What the layer gives, in words."""
        return f"{self.given[0]} tokens" if len(self.given) == 2 else "x".join(map(str, self.given))

    def to_map(self, values: Tensor) -> Tensor:
        """Return the map, a view: (B, N, C) or (B, H, W, C) -> (B, C, H, W)."""
        if values.ndim == 3:
            values = values[:, self.prefix :].unflatten(1, self.shape[1:])
        return values.permute(0, 3, 1, 2)

    def __str__(self) -> str:
        """Return which map it is, as a clause's end."""
        left_out = f" after {self.prefix} other token{'s' * (self.prefix > 1)}" if self.prefix else ""
        last = " with its channels last" if len(self.given) == 3 else ""
        return f"a map of {self.shape[1]}x{self.shape[2]}{left_out}{last}"


def possible_layouts(shape: tuple[int, ...], network: nn.Module) -> list[Layout]:
    """Return all ways in which a layer's output can be a map; none where it is one already, or cannot be one.

    A network says how many tokens are in front by ``num_prefix_tokens``, as timm's do: these are in front wherever
    what is left is a square. Of another network each of ``USUAL_PREFIXES`` is possible that leaves a square.
    A map has its channels last where only its first two sizes are equal; where all three are, a network says so by
    ``output_fmt = "NHWC"``.

    Args:
        shape: The output's shape, without the batch dimension.
        network: The module that has the layer.
    """
    if len(shape) == 3:
        last = shape[0] == shape[1] and (shape[1] != shape[2] or getattr(network, "output_fmt", "") == "NHWC")
        return [Layout(shape)] if last else []
    if len(shape) != 2:
        return []
    known = getattr(network, "num_prefix_tokens", None)
    found = [Layout(shape, prefix) for prefix in (USUAL_PREFIXES if known is None else (known, 0))]
    squares = [layout for layout in found if _is_square(shape[0] - layout.prefix)]
    return squares if known is None else squares[:1]


def _is_square(count: int) -> bool:
    return count > 0 and isqrt(count) ** 2 == count
