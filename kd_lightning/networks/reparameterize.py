"""Re-parameterize a network for training."""

from collections import Counter
from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from kd_lightning.digest import digest
from kd_lightning.errors import UserError
from kd_lightning.networks.base import Network
from kd_lightning.networks.fusable import FactoredWeight, FusableLayer, Plain, fused, replace_layers
from kd_lightning.networks.libraries import reason
from kd_lightning.networks.random_state import fresh_random_state, seeded_random_state
from kd_lightning.networks.trial import evaluate, trial_images

TOLERANCE = 1e-4
"""How much the logits of the two forms may differ."""


def reparameterize_network(network: Network, factor: int) -> Network:
    """Re-parameterize a network, in place.

    A layer without a bias, and the last one, which gives the logits, get no BatchNorm. A layer whose weights are not
    random (loaded, or the same whenever the network is built) gets none either: it begins with them, and a BatchNorm
    would rescale its output. Layers that are frozen or share their weights stay plain.

    Args:
        network: A network of convolutions, linear layers and layers without weights.
        factor: As in ``FusableLayer``: 1 only adds BatchNorm.

    Raises:
        UserError: The network has other layers with weights, or none to change; it reads its layers' weights itself; or
            ``factor`` is below 1.
    """
    if factor < 1:
        raise UserError(
            f"--model.reparameterize is {factor}, but it must be 1 or more, or 0 to train the plain network."
        )
    layers = _plain_layers(network)
    last, given = _last_run(network, layers), _given(network)
    with seeded_random_state(_seed_of(network)):
        forms = {
            layer: FusableLayer(layer, factor, layer not in (last, *given) and layer.bias is not None, layer in given)
            for layer in _changeable(layers)
        }
        replace_layers(network, forms)
        _check(network)
    if not any(form.norm is not None or isinstance(form.weight, FactoredWeight) for form in forms.values()):
        raise UserError(
            f"--model.reparameterize {factor} changes nothing in {type(network).__name__}: its layers are frozen, "
            "share their weights or began with weights, and so get no BatchNorm; set it to 2 or more, or 0."
        )
    return network


def _seed_of(network: Network) -> int:
    """Return a seed from the run's and the weights: students of one seed begin alike, with any teacher or none."""
    return int(digest(torch.initial_seed(), *network.state_dict().values(), size=8), 16)


def _plain_layers(network: Network) -> list[Plain]:
    layers: list[Plain] = []
    for name, module in network.named_modules():
        own = {key for key, _ in module.named_parameters(recurse=False)}
        plain = type(module) in (nn.Conv2d, nn.Linear) and getattr(module, "padding_mode", "zeros") == "zeros"
        if plain and own <= {"weight", "bias"}:  # weight_norm has other parameters
            layers.append(cast(Plain, module))
        elif own:
            raise UserError(
                "--model.reparameterize needs convolutions and linear layers with only weight and bias, but "
                f"{type(network).__name__} has a {type(module).__name__} ('{name}'); set it to 0."
            )
    return layers


def _changeable(layers: Sequence[Plain]) -> list[Plain]:
    """Return the layers whose parameters are all trained and not shared with another layer."""
    uses = Counter(id(parameter) for layer in layers for parameter in layer.parameters())
    return [
        layer
        for layer in layers
        if all(parameter.requires_grad and uses[id(parameter)] == 1 for parameter in layer.parameters())
    ]


def _given(network: Network) -> set[nn.Module]:
    """Return the layers whose weights are not random: all where they were loaded, else those that are always equal."""
    if network.came_with_weights:
        return set(network.modules())
    try:
        with fresh_random_state():
            again = network.rebuilt().state_dict()
    except Exception as error:  # the constructor is the user's
        raise UserError(
            f"{type(network).__name__} cannot be built a second time ({reason(error)}); pass all arguments of its "
            "constructor to super().__init__, or set --model.reparameterize 0."
        ) from error
    alike = {
        name
        for name, values in network.state_dict().items()
        if name in again and torch.equal(values, again[name].to(values))
    }
    return {layer for name, layer in network.named_modules() if f"{name}.weight" in alike}


def _last_run(network: Network, layers: list[Plain]) -> Plain | None:
    """Return the layer that runs last in a pass."""
    run: list[Plain] = []
    hooks = [layer.register_forward_hook(lambda layer, *_: run.append(layer)) for layer in layers]
    try:
        evaluate(network, trial_images(network, 1, network.image_shape))
    finally:
        for hook in hooks:
            hook.remove()
    return run[-1] if run else None


def _check(network: Network) -> None:
    """Refuse a network that does anything with its layers but call them."""
    image = trial_images(network, 1, network.image_shape).normal_()
    try:
        differ = not torch.allclose(evaluate(network, image), evaluate(fused(network), image), atol=TOLERANCE)
    except (AttributeError, TypeError):
        differ = True
    if differ:
        raise UserError(
            f"{type(network).__name__} reads the weights of its layers itself, or is random in evaluation mode, "
            "so it cannot be re-parameterized; set --model.reparameterize 0."
        )
