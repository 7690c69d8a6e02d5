"""Check that a file's weights, read as prediction reads them, give the logits of the measured network."""

from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor

from kd_lightning.errors import UserError
from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.networks.base import Network
from kd_lightning.networks.fusable import fused
from kd_lightning.networks.random_state import fresh_random_state
from kd_lightning.networks.trial import in_mode
from kd_lightning.networks.weights import network_of, parse_info

TOLERANCE = 1e-4
"""How much logits may differ, as a share of the largest; the same computation gives the same bits."""


class ReadBackError(UserError):
    """The weights do not give the logits of the network that they were taken from."""


def check_weights(
    trained: Network, state_dict: Mapping[str, Tensor], info: ModelInfo, images: Tensor, path: str | Path
) -> None:
    """Compare a network with the one that is built from its weights.

    Args:
        trained: The network as it is measured, plain or re-parameterized; it is not changed.
        state_dict: The weights of the plain network.
        info: Its description in the file.
        images: Normalized images (B, C, S, S), on its device.
        path: The file, for messages.

    Raises:
        ReadBackError: The weights cannot be read or give other logits, or the network is not deterministic.
    """
    kind = trained.class_path.rpartition(".")[2]
    with torch.inference_mode(False), torch.no_grad(), fresh_random_state(), in_mode(trained, training=False):
        try:
            read = network_of(trained.rebuilt, info, state_dict, path).to(images).to_channels_last()
        except UserError as error:
            raise ReadBackError(
                f"{kind} cannot be read from its own weights: {error} (A network is built again from the arguments "
                "that it passes to super().__init__, and must then have the same layers.)"
            ) from error
        logits = trained(images)
        if not _alike(trained(images), logits):
            raise ReadBackError(
                f"{kind} gives other logits each time that it sees an image, so no file reproduces its results; "
                "let it use random numbers only in training mode."
            )
        if not _alike(read(images), logits):
            raise ReadBackError(
                f"{kind} gives other logits when it is read from its own weights: it keeps something besides "
                "parameters and buffers, such as random numbers of its constructor, or a buffer with "
                "persistent=False; register all that it computes with as buffers."
            )


@torch.no_grad()
def check_before_training(network: Network, info: ModelInfo, path: str | Path) -> None:
    """Run the same check after one training pass, on a copy and with noise as images.

    Args:
        network: The network, plain or re-parameterized; it is not changed.
        info: Its description in the file.
        path: The file, for messages.

    Raises:
        UserError: A file would not reproduce the network.
    """
    trained = deepcopy(network)
    parameter = next(trained.parameters())
    with fresh_random_state():
        images = torch.randn((2, *network.image_shape)).to(parameter)
        with suppress(Exception):  # training reports it better
            trained.train()(images)
    weights = {name: values.cpu() for name, values in fused(trained).state_dict().items()}
    try:
        check_weights(trained, weights, parse_info(info.to_plain(), path), images, path)
    except ReadBackError as error:
        raise UserError(str(error)) from error


def _alike(found: Tensor, expected: Tensor) -> bool:
    largest = float(expected.abs().nan_to_num().max())
    return torch.allclose(found, expected, rtol=0, atol=TOLERANCE * largest, equal_nan=True)
