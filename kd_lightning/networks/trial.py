"""Trials of networks on blank images before training, without side effects."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from kd_lightning.errors import UserError
from kd_lightning.networks.random_state import kept_random_state
from kd_lightning.wording import counted


def trial_images(network: nn.Module, count: int, image_shape: tuple[int, int, int]) -> Tensor:
    """Return blank images (count, C, H, W) on a network's device and in its precision."""
    values = next(chain(network.parameters(), network.buffers()), torch.zeros(()))
    dtype = values.dtype if values.is_floating_point() else torch.get_default_dtype()
    return torch.zeros((count, *image_shape), device=values.device, dtype=dtype)


@torch.no_grad()
def evaluate(network: nn.Module, images: Tensor) -> Any:
    """Return a network's output for images in evaluation mode; it stays unchanged."""
    with in_mode(network, training=False):
        return network(images)


@contextmanager
def in_mode(network: nn.Module, training: bool) -> Iterator[None]:
    """Run a block in training or in evaluation mode; restore modes, running statistics and random states."""
    modes = [(module, module.training) for module in network.modules()]
    buffers = [
        (module, name, values, values.clone())
        for module in network.modules()
        for name, values in module.named_buffers(recurse=False)
        if not is_lazy(values)
    ]
    try:
        with kept_random_state():
            network.train(training)
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for module, name, values, before in buffers:
            setattr(module, name, values)  # it may have been replaced
            with torch.no_grad():
                values.copy_(before)


def require_logits(kind: str, output: Any, images: Tensor, training: bool) -> None:
    """Refuse an output that is not the images' logits.

    Args:
        kind: The network's name in messages.
        output: Its output.
        images: (B, C, H, W).
        training: Whether it was in training mode.

    Raises:
        UserError: The output is not (B, classes) in the precision of the images.
    """
    if isinstance(output, Tensor):
        if output.dtype == images.dtype and output.ndim == 2 and len(output) == len(images):
            return
        found = f"values of shape {tuple(output.shape)} in {_name(output.dtype)}"
    else:
        found = f"a {type(output).__name__}"
    mode = "training" if training else "evaluation"
    raise UserError(
        f"{kind} gives {found} for {counted(len(images), 'image')} in {mode} mode, but must give logits of shape "
        f"({len(images)}, num_classes) in {_name(images.dtype)}, or an object with them as `logits`; "
        "`.flatten(1)` makes them of a map of one pixel."
    )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
