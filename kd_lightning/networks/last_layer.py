"""The last linear layer of a network: it turns features into logits."""

from torch import Tensor, nn

from kd_lightning.errors import UserError
from kd_lightning.networks.base import Network
from kd_lightning.networks.fusable import FusableLayer


def last_linear(network: Network) -> nn.Linear | FusableLayer:
    """Return the last linear layer, plain or re-parameterized.

    Raises:
        UserError: There is none, or it does not give the logits.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Linear | FusableLayer)]
    if not layers or weight_of(layers[-1]).ndim != 2 or len(weight_of(layers[-1])) != network.num_classes:
        kind = type(network.layer_root()).__name__
        raise UserError(f"{kind} does not end in a linear layer of {network.num_classes} outputs; use another network.")
    return layers[-1]


def weight_of(layer: nn.Linear | FusableLayer) -> Tensor:
    """Return the weight of a linear layer, (C', C)."""
    return layer.weight() if isinstance(layer, FusableLayer) else layer.weight
