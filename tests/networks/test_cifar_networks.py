"""The networks for small images: their sizes, by a count of their own, and what every family must do."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional
from weights_example import info_of

from kd_lightning.errors import UserError
from kd_lightning.networks import Network, ResNet9
from kd_lightning.networks.layers import TappedNetwork
from kd_lightning.networks.weights import load_model, save_weights

SMALL: dict[str, Callable[..., Network]] = {"ResNet9": partial(ResNet9, width=4)}
"""A small network of each family."""

STAGES: dict[str, list[tuple[int, int]]] = {"ResNet9": [(4, 32), (8, 16), (16, 8), (32, 4)]}
"""Channels and size of the maps of the stem and of each layer of it."""


def parameters(network: nn.Module) -> int:
    return sum(values.numel() for values in network.parameters())


def small_network(family: str, classes: int = 5, channels: int = 3, size: int = 32) -> Network:
    torch.manual_seed(0)
    return SMALL[family](classes, channels, size)


@pytest.mark.parametrize("width", [32, 64])
@pytest.mark.parametrize("classes", [10, 100])
def test_resnet9_has_the_parameters_of_its_layers(width: int, classes: int) -> None:
    pairs = [(3, 1), (1, 2), (2, 2), (2, 2), (2, 4), (4, 8), (8, 8), (8, 8)]
    weights = sum(9 * (before if before == 3 else width * before) * width * after for before, after in pairs)
    normalizations = sum(2 * width * after for _, after in pairs)
    with torch.device("meta"):
        network = ResNet9(num_classes=classes, width=width)
    assert parameters(network) == weights + normalizations + (8 * width + 1) * classes
    if classes == 10:
        assert f"{parameters(network):,}" in (ResNet9.__doc__ or "")


@pytest.mark.parametrize("family", SMALL)
@pytest.mark.parametrize(("channels", "size"), [(3, 32), (1, 28), (3, 64), (3, 224)])
def test_a_step_on_images_of_a_size_moves_every_parameter(family: str, channels: int, size: int) -> None:
    network = small_network(family, 5, channels, size).laid_out()
    before = [values.detach().clone() for values in network.parameters()]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    logits = network(torch.randn(2, channels, size, size))
    assert logits.shape == (2, 5)
    functional.cross_entropy(logits, torch.tensor([1, 4])).backward()
    optimizer.step()
    names = [name for name, _ in network.named_parameters()]
    for name, old, new in zip(names, before, network.parameters(), strict=True):
        assert not torch.equal(old, new), name
        assert new.isfinite().all(), name


@pytest.mark.parametrize("family", SMALL)
def test_a_weight_file_brings_the_network_back_to_the_bit(family: str, tmp_path: Path) -> None:
    network, images = small_network(family), torch.randn(4, 3, 32, 32)
    network(images)  # moves the running statistics
    save_weights(tmp_path / "net.pth", network, info_of(network))
    loaded, _ = load_model(tmp_path / "net.pth")
    assert loaded.arguments == network.arguments
    assert torch.equal(loaded(images), network.eval()(images))


@pytest.mark.parametrize("family", SMALL)
def test_layers_give_in_training_what_they_give_in_evaluation(family: str) -> None:
    network = small_network(family).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()  # a batch's statistics; every other layer stays in training
    layers = [name for name, _ in network.named_modules() if name]
    watched = TappedNetwork(network, layers, network.layer_root(), network.image_shape)
    images = torch.randn(3, 3, 32, 32)
    training = watched(images)
    network.eval()
    evaluated = watched(images)
    for name in layers:
        assert torch.equal(training.maps[name], evaluated.maps[name]), name


@pytest.mark.parametrize("family", STAGES)
def test_stages_have_their_channels_and_sizes(family: str) -> None:
    network = SMALL[family]()
    layers = ["stem", *(name for name, _ in network.named_children() if name.startswith("layer"))]
    shapes = TappedNetwork(network, layers, network.layer_root(), network.image_shape).shapes
    assert [shapes[name] for name in layers] == [(channels, size, size) for channels, size in STAGES[family]]


@pytest.mark.parametrize("family", SMALL)
def test_every_class_of_a_network_says_that_it_fits_the_fast_path(family: str) -> None:
    kinds = {type(module) for module in small_network(family).modules()}
    own = [kind for kind in kinds if not kind.__module__.startswith("torch.")]
    assert own
    assert all(vars(kind)["works_with_fast_path"] is True for kind in own)


@pytest.mark.parametrize("family", SMALL)
def test_convolutions_are_drawn_as_he_says(family: str) -> None:
    for name, module in small_network(family).named_modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 500:
            expected = (2 / (module.out_channels * module.kernel_size[0] ** 2)) ** 0.5
            assert module.weight.detach().std().item() == pytest.approx(expected, rel=0.15), name


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: ResNet9(image_size=7), "ResNet9 takes images of 8 pixels or more, not 7"),
        (lambda: ResNet9(width=0), "width of ResNet9 is 1 or more, not 0"),
    ],
)
def test_what_cannot_be_built_is_one_sentence(build: Callable[[], Network], says: str) -> None:
    with pytest.raises(UserError, match=says):
        build()
