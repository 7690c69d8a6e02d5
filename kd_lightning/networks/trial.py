"""Trials of networks on blank images before training, without side effects."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from kd_lightning.errors import UserError
from kd_lightning.wording import counted


def trial_images(network: nn.Module, count: int, image_shape: tuple[int, int, int]) -> Tensor:
    """Return blank images (count, C, H, W) on a network's device and in its precision."""
    values = next(chain(network.parameters(), network.buffers()), torch.zeros(()))
    dtype = values.dtype if values.is_floating_point() else torch.get_default_dtype()
    return torch.zeros((count, *image_shape), device=values.device, dtype=dtype)


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
    python, numpy = random.getstate(), np.random.get_state()
    devices = {values.device for values in network.parameters() if values.is_cuda}
    try:
        with torch.random.fork_rng(devices):
            network.train(training)
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for module, name, values, before in buffers:
            setattr(module, name, values)  # it may have been replaced
            with torch.no_grad():
                values.copy_(before)
        random.setstate(python)
        np.random.set_state(numpy)


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
    count = len(images)
    if not isinstance(output, Tensor):
        found, fix = f"a {type(output).__name__}", "return only the logits, or an object with `logits`"
    elif output.dtype != images.dtype:
        found, fix = f"values in {_name(output.dtype)}", f"return the logits in {_name(images.dtype)}"
    elif output.ndim > 2:
        found, fix = f"values of shape {tuple(output.shape)}", "end with `.flatten(1)`"
    elif output.ndim < 2 or len(output) != count:
        found, fix = f"values of shape {tuple(output.shape)}", "keep the batch's dimension, as `.flatten(1)` does"
    else:
        return
    mode = "training" if training else "evaluation"
    raise UserError(
        f"{kind} gives {found} for {counted(count, 'image')} in {mode} mode, but must give logits of shape "
        f"({count}, num_classes); {fix}."
    )


def require_precision(network: nn.Module, kind: str) -> None:
    """Refuse weights in float64, unless that is torch's default dtype; ``kind`` names the network.

    Raises:
        UserError: A weight is in float64.
    """
    for name, values in network.named_parameters():
        if values.dtype == torch.float64 != torch.get_default_dtype():
            raise UserError(
                f"{kind} has {name} in float64, but is given images in float32; build it in float32 "
                "(--trainer.precision 64-true trains that in float64)."
            )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
