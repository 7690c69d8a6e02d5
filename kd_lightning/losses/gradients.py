"""How hard losses pull at a network, by the lengths of their gradients."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kd_lightning.losses.base import to_float32


def relative_pull(loss: Tensor, reference: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
    """Return the length of a loss's gradient divided by that of a reference loss, a scalar.

    Only parameters count that both losses reach: a loss on an early layer leaves those after it alone. The graph is
    kept, and the parameters' own gradients stay as they are.

    Args:
        loss: A scalar.
        reference: A scalar, of the same pass.
        parameters: The parameters of the network.

    Returns:
        0 or more; not finite where a gradient is not, or where the reference's is 0.
    """
    gradients = [
        torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True) for value in (loss, reference)
    ]
    shared = [pair for pair in zip(*gradients, strict=True) if pair[0] is not None and pair[1] is not None]
    if not shared:
        return torch.zeros((), device=loss.device)
    own, other = (torch.cat([to_float32(part).flatten() for part in side]).norm() for side in zip(*shared, strict=True))
    ratio: Tensor = own / other
    return ratio
