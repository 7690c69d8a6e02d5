"""Weights are read as prediction reads them, and have to give the logits of the network that was measured."""

from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor

from kd_lightning.errors import UserError
from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.networks.base import Network
from kd_lightning.networks.building import builder_of
from kd_lightning.networks.fusable import fused
from kd_lightning.networks.layers import evaluated
from kd_lightning.networks.random_state import other_draws
from kd_lightning.networks.weights import network_of, parse_info

TOLERANCE = 1e-4
"""By how much logits may differ, as a share of the largest; what runs the same way gives the same bits."""


class ReadBackError(UserError):
    """Weights that do not give the logits of the network that they were taken from."""


def check_weights(
    trained: Network, state_dict: Mapping[str, Tensor], info: ModelInfo, images: Tensor, path: str | Path
) -> None:
    """Compare a network with the one that its weights give when they are read.

    Args:
        trained: The network as it is measured, in whatever form; it is left as it was.
        state_dict: The weights of its plain form.
        info: What a file says about it.
        images: Normalized images (B, C, S, S), on its device.
        path: The file's, for messages.

    Raises:
        ReadBackError: They cannot be read, or give other logits; or the network gives others every time.
    """
    kind = trained.class_path.rpartition(".")[2]
    with torch.inference_mode(False), torch.no_grad(), other_draws(), evaluated(trained):
        try:
            read = network_of(builder_of(trained), info, state_dict, path).to(images).to_channels_last()
        except UserError as error:
            raise ReadBackError(
                f"{kind} cannot be read from its own weights: {error} (A network is built again from the arguments "
                "that it hands to super().__init__, and has to have the same layers then.)"
            ) from error
        logits = trained(images)
        if not _alike(trained(images), logits):
            raise ReadBackError(
                f"{kind} gives other logits each time that it sees an image, so no file gives what is measured; "
                "let it draw at random in training mode alone."
            )
        if not _alike(read(images), logits):
            raise ReadBackError(
                f"{kind} gives other logits when it is read from its own weights: {_why(trained, read)}."
            )


@torch.no_grad()
def check_before_training(network: Network, info: ModelInfo, path: str | Path) -> None:
    """Try the same with what a network is behind one pass of training, on a copy and noise.

    Args:
        network: The network, in its form for training; it is left as it was.
        info: What a file will say about it.
        path: The file's, for messages.

    Raises:
        UserError: A file could not give what is measured.
    """
    trained = deepcopy(network)
    parameter = next(trained.parameters())
    with other_draws():
        images = torch.randn((2, *network.image_shape)).to(parameter)
        with suppress(Exception):  # training says it better
            trained.train()(images)
    weights = {name: values.cpu() for name, values in fused(trained).state_dict().items()}
    try:
        check_weights(trained, weights, parse_info(info.to_plain(), path), images, path)
    except ReadBackError as error:
        raise UserError(str(error)) from error


def _alike(found: Tensor, expected: Tensor) -> bool:
    largest = float(expected.abs().nan_to_num().max())
    return torch.allclose(found, expected, rtol=0, atol=TOLERANCE * largest, equal_nan=True)


def _why(trained: Network, read: Network) -> str:
    """Return the likely reason, as a clause."""
    own, saved = dict(trained.named_buffers()), read.state_dict()
    for name, buffer in read.named_buffers():
        if name not in saved and name in own and not torch.equal(own[name], buffer):
            return f"its buffer '{name}' is not saved; register it without persistent=False"
    return (
        "it keeps something besides parameters and buffers, such as what its constructor has drawn at random; "
        "register that as a buffer"
    )
