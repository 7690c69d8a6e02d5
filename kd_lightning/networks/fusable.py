"""Structural re-parameterization: BatchNorm and factored convolutions that are fused into the plain network.

A network of plain convolutions and linear layers trains better in a larger, re-parameterized form of the same
expressiveness. A BatchNorm follows each layer but the last, and each convolution's weight is the product of a 1x1, a
convolution of its own size and a 1x1, multiplied out in every step (Guo et al., "ExpandNets", NeurIPS 2020,
https://arxiv.org/abs/1811.10495). Only weights are multiplied, no larger maps, so a step costs little more. In
evaluation mode each layer uses its one fused weight and bias, as the plain network in files does.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from kd_lightning.networks.base import Network

Plain = nn.Conv2d | nn.Linear


class FactoredWeight(nn.Module):
    """The weight of a convolution as the product of the weights of a 1x1, a convolution of its size and a 1x1.

    Args:
        plain: The convolution.
        factor: Channels of the inner convolution, as a multiple of the plain one's.
        given: Whether the product begins as the convolution's own weight, up to rounding, and not as a random one.
    """

    def __init__(self, plain: nn.Conv2d, factor: int, given: bool = False) -> None:
        super().__init__()
        weight = plain.weight
        out_channels, in_channels, self.height, self.width = weight.shape
        inner_out, inner_in = factor * out_channels, factor * in_channels
        self.first = nn.Parameter(weight.new_empty(inner_in, in_channels))
        self.middle = nn.Parameter(weight.new_empty(inner_out, self.height * self.width, inner_in))
        self.last = nn.Parameter(weight.new_empty(out_channels, inner_out))
        for values, fan_in in (
            (self.first, in_channels),
            (self.middle, self.middle[0].numel()),
            (self.last, inner_out),
        ):  # as torch initializes the three as layers
            nn.init.uniform_(values, -(fan_in**-0.5), fan_in**-0.5)
        if given:
            self._set_product(weight)

    @torch.no_grad()
    def _set_product(self, weight: Tensor) -> None:
        """Set the product to a weight (C', C, H, W), by the smallest change of the random inner factor."""
        first, middle, last = (values.double() for values in (self.first, self.middle, self.last))
        wanted = weight.double().permute(0, 2, 3, 1).flatten(1)  # (C', H*W*C)
        missing = wanted - last @ (middle @ first).flatten(1)
        change = (torch.linalg.pinv(last) @ missing).unflatten(1, (-1, weight.shape[1]))  # (F C', H*W, C)
        self.middle.add_(change @ torch.linalg.pinv(first))

    def forward(self) -> Tensor:
        """Return the product, (C', C, H, W) in channels_last memory."""
        with torch.autocast(self.first.device.type, enabled=False):
            inner = self.middle @ self.first  # (F C', H*W, F C) -> (F C', H*W, C)
            product = self.last @ inner.flatten(1)  # -> (C', H*W*C)
        return product.view(len(product), self.height, self.width, -1).permute(0, 3, 1, 2)


class WholeWeight(nn.Module):
    """The weight of a layer as it is.

    Args:
        plain: The layer.
    """

    def __init__(self, plain: Plain) -> None:
        super().__init__()
        self.whole = nn.Parameter(plain.weight.detach().clone())

    def forward(self) -> Tensor:
        """Return the weight, (C', C, H, W) or (C', C)."""
        return self.whole


class FusableLayer(nn.Module):
    """A convolution or linear layer in its re-parameterized form.

    Its BatchNorm scales by absolute values, so that the largest value stays the largest and it may follow a max
    pooling.

    Args:
        plain: The plain layer; it has a bias where it is normalized.
        factor: Channels of a convolution's inner factor, as a multiple of its own; 1 does not factor its weight.
        normalized: Whether a BatchNorm follows it.
        given: Whether its weight begins as the plain layer's, and not as a random one.
    """

    def __init__(self, plain: Plain, factor: int, normalized: bool, given: bool = False) -> None:
        super().__init__()
        self.weight: nn.Module = WholeWeight(plain)
        if isinstance(plain, nn.Conv2d) and factor > 1:
            self.weight = FactoredWeight(plain, factor, given)
        self.bias = None if plain.bias is None else nn.Parameter(plain.bias.detach().clone())
        self.norm: nn.BatchNorm1d | nn.BatchNorm2d | None = None
        self.scale: nn.Parameter | None = None
        if normalized:
            self.scale = nn.Parameter(plain.weight.new_ones(len(plain.weight)))
            kind = nn.BatchNorm2d if isinstance(plain, nn.Conv2d) else nn.BatchNorm1d
            self.norm = kind(len(plain.weight), affine=False, device=plain.weight.device, dtype=plain.weight.dtype)
        self._plain = (deepcopy(plain).to("meta"),)  # its class and settings; in a tuple it is not a submodule

    def forward(self, values: Tensor) -> Tensor:
        """Return the layer's output for values (B, C, ...), normalized in training."""
        if self.training:
            return self.add_bias(self.apply_weight(values, self.weight()))
        return self.apply_weight(values, *self.fused())

    def apply_weight(self, values: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return the plain layer's output with another weight and bias."""
        (plain,) = self._plain
        if isinstance(plain, nn.Linear):
            return functional.linear(values, weight, bias)
        return functional.conv2d(values, weight, bias, plain.stride, plain.padding, plain.dilation, plain.groups)

    def add_bias(self, values: Tensor) -> Tensor:
        """Return values (B, C', ...) normalized, scaled and with the bias, as training does."""
        shape = -1, *[1] * (values.ndim - 2)  # (C') -> (C', 1, 1)
        if self.norm is not None and self.scale is not None and self.bias is not None:
            return torch.addcmul(self.bias.view(shape), self.norm(values), self.scale.abs().view(shape))
        return values if self.bias is None else values + self.bias.view(shape)

    def fused(self) -> tuple[Tensor, Tensor | None]:
        """Return the fused weight and bias, those of the plain layer."""
        weight: Tensor = self.weight()
        if self.norm is None or self.scale is None or self.bias is None:
            return weight, self.bias
        assert self.norm.running_var is not None
        assert self.norm.running_mean is not None
        scale = self.scale.abs() * torch.rsqrt(self.norm.running_var + self.norm.eps)
        return weight * scale.view(-1, *[1] * (weight.ndim - 1)), self.bias - self.norm.running_mean * scale

    @torch.no_grad()
    def plain(self) -> Plain:
        """Return the plain layer with the fused weight and bias."""
        weight, bias = self.fused()
        layer = deepcopy(self._plain[0]).to_empty(device=weight.device).to(weight.dtype)
        layer.weight.copy_(weight)
        if bias is not None and layer.bias is not None:
            layer.bias.copy_(bias)
        return layer.train(self.training)


def fuse(network: Network) -> Network:
    """Fuse a re-parameterized network into the plain one, in place; leave any other as it is."""
    replace_layers(network, {layer: layer.plain() for layer in network.modules() if isinstance(layer, FusableLayer)})
    return network


def is_reparameterized(network: Network) -> bool:
    """Return whether a network is re-parameterized."""
    return any(isinstance(layer, FusableLayer) for layer in network.modules())


def fused(network: Network) -> Network:
    """Return the plain network of a re-parameterized one; any other one itself, not a copy."""
    return fuse(deepcopy(network)) if is_reparameterized(network) else network


def fused_weights(network: Network, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the plain network's weights for those of its re-parameterized form."""
    other = deepcopy(network)
    other.load_state_dict(state_dict)
    return fuse(other).state_dict()


def replace_layers(network: Network, others: Mapping[Any, nn.Module]) -> None:
    """Replace layers by others, in place."""
    for parent in list(network.modules()):
        for name, child in list(parent._modules.items()):  # named_children would leave out a layer that occurs twice
            if child in others:
                parent._modules[name] = others[child]
