"""What losses on logits share."""

from torch import nn

from kd_lightning.errors import UserError


def require_temperature(loss: nn.Module, temperature: float) -> float:
    """Return a temperature.

    Raises:
        UserError: It is not above 0.
    """
    if not temperature > 0:
        raise UserError(f"temperature of {type(loss).__name__} is {temperature}, but it must be above 0.")
    return temperature
