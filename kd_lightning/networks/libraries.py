"""Shared code of the networks of other libraries: a trial on a blank image shows which image sizes they take."""

import torch

from kd_lightning.errors import UserError
from kd_lightning.networks.base import Network
from kd_lightning.networks.layers import evaluated


def require_images(network: Network, name: str) -> None:
    """Refuse an image size that a network does not take, by a trial on a blank image.

    Args:
        network: The network.
        name: Its name in messages.

    Raises:
        UserError: It fails on the blank image.
    """
    parameter = next(network.parameters())
    image = torch.zeros((1, *network.image_shape), device=parameter.device, dtype=parameter.dtype)
    try:
        with torch.no_grad(), evaluated(network):
            network(image)
    except (RuntimeError, ValueError, AssertionError) as error:
        raise refused_images(name, network.image_size, error) from error


def refused_images(name: str, image_size: int, error: Exception) -> UserError:
    """Return the error for a network that does not take an image size."""
    return UserError(
        f"{name} does not take images of {image_size} pixels ({reason(error)}); set --data.image_size or choose "
        "another network."
    )


def reason(error: Exception) -> str:
    """Return the message of a library's error, as a clause."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
