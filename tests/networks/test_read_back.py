"""A weight file gives the logits of the trained network, or is not saved."""

import random
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD
from weights_example import info_of

from kd_lightning import networks
from kd_lightning.errors import UserError
from kd_lightning.export.onnx import export_onnx
from kd_lightning.inference.onnx_predictor import OnnxPredictor
from kd_lightning.networks import LightNN, ModuleNetwork, Network
from kd_lightning.networks.fusable import fused
from kd_lightning.networks.read_back import ReadBackError, check_before_training, check_weights
from kd_lightning.networks.reparameterize import reparameterize_network
from kd_lightning.networks.weights import load_model, read_weights, save_weights

SMALL: dict[str, dict[str, Any]] = {
    "ResNet": {"depth": 8},
    "ResNet50": {"width": 4},
    "WideResNet": {"depth": 10, "width": 1},
    "TorchvisionNetwork": {"name": "mobilenet_v2"},
    "TimmNetwork": {"name": "test_resnet"},
}
SHIPPED = [name for name in networks.__all__ if name not in ("Network", "ModuleNetwork")]


def shipped(name: str) -> Network:
    return getattr(networks, name)(4, 3, 32, **SMALL.get(name, {}))  # type: ignore[no-any-return]


def own(name: str) -> Network:
    return ModuleNetwork(4, 3, 16, f"odd_networks.{name}")


def trained(network: Network, factor: int = 0, steps: int = 3) -> Network:
    """The network after some steps, which move its statistics too."""
    network = (reparameterize_network(network, factor) if factor else network).to_channels_last()
    optimizer = SGD([values for values in network.parameters() if values.requires_grad], lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        network.train()(torch.randn(4, *network.image_shape)).square().mean().backward()
        optimizer.step()
    return network


def written(network: Network, path: Path, images: Tensor) -> None:
    def check(file: Path) -> None:
        state_dict, info = read_weights(file)
        assert info is not None
        check_weights(network, state_dict, info, images, path)

    save_weights(path, fused(network), info_of(network), check)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_networks_file_gives_its_logits_bit_for_bit(name: str, tmp_path: Path) -> None:
    network, images = trained(shipped(name), steps=1), torch.randn(8, 3, 32, 32)
    check_before_training(network, info_of(network), "net.pth")
    written(network, tmp_path / "net.pth", images)
    loaded, _ = load_model(tmp_path / "net.pth", network.class_path)
    assert torch.equal(loaded.to_channels_last()(images), network.eval()(images))


@pytest.mark.parametrize(
    ("name", "factor"),
    [("Tied", 0), ("Tied", 4), ("Frozen", 1), ("Given", 4), ("Lazy", 0), ("WeightNormed", 0), ("Parametrized", 0)],
)
def test_an_own_networks_files_give_its_logits(name: str, factor: int, tmp_path: Path) -> None:
    network, images = trained(own(name), factor), torch.randn(8, 3, 16, 16)
    check_before_training(network, info_of(network), "net.pth")
    written(network, tmp_path / "net.pth", images)
    loaded, _ = load_model(tmp_path / "net.pth", network.class_path)
    logits = network.eval()(images)
    assert logits.std() > 1e-3
    torch.testing.assert_close(loaded(images), logits, rtol=0, atol=1e-6 * logits.abs().max().item())


@pytest.mark.parametrize(
    ("name", "factor", "message"), [("Given", 1, "changes nothing"), ("WeightNormed", 4, "only weight and bias")]
)
def test_a_network_that_reparameterization_cannot_change_is_refused(name: str, factor: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        reparameterize_network(own(name), factor)


def test_an_onnx_file_gives_a_networks_logits_that_shares_weights(tmp_path: Path) -> None:
    network = trained(own("Tied"), 4)
    export_onnx(fused(network), info_of(network), tmp_path / "net.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    images = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - 0.1) / 0.2
    expected = network.eval()(images).softmax(1).detach().numpy()
    np.testing.assert_allclose(OnnxPredictor(tmp_path / "net.onnx").probabilities(pixels), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("Ordered", "Ordered gives other logits when it is read .* random numbers of its constructor"),
        ("Buffered", "Buffered gives other logits when it is read .* a buffer with persistent=False"),
        ("Noisy", "Noisy gives other logits each time that it sees an image"),
    ],
)
def test_a_network_that_files_cannot_reproduce_is_refused_before_training(name: str, reason: str) -> None:
    network = own(name)
    with pytest.raises(UserError, match=reason):
        check_before_training(network, info_of(network), "net.pth")


def test_a_network_that_only_training_makes_irreproducible_is_refused_when_it_is_saved(tmp_path: Path) -> None:
    network, images = own("Annealed"), torch.randn(8, 3, 16, 16)
    check_before_training(network, info_of(network), "net.pth")
    with pytest.raises(ReadBackError, match="keeps something besides parameters and buffers"):
        written(trained(network), tmp_path / "net.pth", images)
    assert not list(tmp_path.iterdir())


class Forgetful(Network):
    """Does not pass its own argument on."""

    def __init__(self, num_classes: int = 4, in_channels: int = 3, image_size: int = 8, width: int = 3) -> None:
        super().__init__(num_classes, in_channels, image_size)
        self.stem, self.head = nn.Conv2d(in_channels, width, 3), nn.Linear(width, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.stem(images).mean((2, 3)))  # type: ignore[no-any-return]


def test_a_network_that_is_not_built_again_as_it_was_is_refused() -> None:
    check_before_training(Forgetful(), info_of(Forgetful()), "net.pth")
    with pytest.raises(UserError, match=r"Forgetful cannot be read from .* must then have the same layers"):
        check_before_training(Forgetful(width=5), info_of(Forgetful()), "net.pth")


def test_a_check_changes_neither_the_network_nor_any_random_state() -> None:
    network = LightNN(4, 3, 8)
    before = deepcopy(network.state_dict())
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()  # type: ignore[index]
    check_before_training(network, info_of(network), "net.pth")
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert np.array_equal(np.random.get_state()[1], states[2])  # type: ignore[index]
    assert network.training
    assert all(torch.equal(values, before[name]) for name, values in network.state_dict().items())


def test_a_network_that_holds_a_graph_from_a_pass_is_copied() -> None:
    network = trained(own("WeightNormed"))
    network.train()(torch.randn(2, 3, 16, 16))
    copied, images = deepcopy(network), torch.randn(2, 3, 16, 16)
    assert torch.equal(copied.eval()(images), network.eval()(images))
    copied.get_submodule("body.head").bias.data.add_(1)  # type: ignore[operator]
    assert not torch.equal(copied(images), network(images))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("loaded", [True, False])
def test_reparameterization_begins_with_weights_that_are_not_random_in_both_modes(loaded: bool, training: bool) -> None:
    network = LightNN(4, 3, 8, dropout=0) if loaded else own("Given")
    if loaded:
        network.load_state_dict(LightNN(4, 3, 8).state_dict())
    images, form = torch.randn(8, *network.image_shape), reparameterize_network(deepcopy(network), 4)
    logits = network.train(training)(images)
    found = form.train(training)(images)
    torch.testing.assert_close(found, logits, rtol=0, atol=1e-5 * logits.abs().max().item())
    assert len(list(form.parameters())) > len(list(network.parameters()))
    found.square().sum().backward()
    assert all(values.grad is not None and values.grad.abs().sum() > 0 for values in form.parameters())


def test_reparameterization_leaves_frozen_and_shared_layers() -> None:
    frozen = own("Frozen")
    before = frozen.get_parameter("body.stem.weight").clone()
    assert torch.equal(fused(trained(frozen, 4)).get_parameter("body.stem.weight"), before)
    tied = fused(trained(own("Tied"), 4))
    assert tied.get_parameter("body.body.weight") is tied.get_parameter("body.again.weight")
