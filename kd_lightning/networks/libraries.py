"""What networks of other libraries share: they are tried on an image, for they say themselves which ones they take."""

import torch

from kd_lightning.errors import UserError
from kd_lightning.networks.base import Network
from kd_lightning.networks.layers import evaluated


def require_images(network: Network, called: str) -> None:
    """Refuse images of a size that a network does not take, by trying a blank one.

    Args:
        network: A network that is built.
        called: What to call it.

    Raises:
        UserError: It cannot work with an image.
    """
    parameter = next(network.parameters())
    image = torch.zeros((1, *network.image_shape), device=parameter.device, dtype=parameter.dtype)
    try:
        with torch.no_grad(), evaluated(network):
            network(image)
    except (RuntimeError, ValueError, AssertionError) as error:
        raise refused_images(called, network.image_size, error) from error


def refused_images(called: str, image_size: int, error: Exception) -> UserError:
    """Return the error that says of a network that it does not take images of a size."""
    return UserError(
        f"{called} does not take images of {image_size} pixels ({reason(error)}); set --data.image_size or choose "
        "another network."
    )


def reason(error: Exception) -> str:
    """Return what an error of a library's says, as a clause."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
