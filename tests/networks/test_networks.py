import pytest
import torch
from torch import nn

from kd_lightning.errors import UserError
from kd_lightning.networks import DeepNN, LightNN


@pytest.mark.parametrize(("kind", "parameters", "channels"), [(DeepNN, 1_186_986, 32), (LightNN, 267_738, 16)])
def test_the_tutorials_networks_have_their_parameters_and_shapes(
    kind: type[DeepNN | LightNN], parameters: int, channels: int
) -> None:
    network = kind()
    images = torch.randn(2, 3, 32, 32)
    assert sum(values.numel() for values in network.parameters()) == parameters
    assert network(images).shape == (2, 10)
    assert network.features(images).shape == (2, channels, 8, 8)


@pytest.mark.parametrize("kind", [DeepNN, LightNN])
def test_dropout_is_the_tutorials_or_the_requested_one_and_does_not_change_the_weights(
    kind: type[DeepNN | LightNN],
) -> None:
    default, without = kind(), kind(dropout=0)
    rates = [
        [layer.p for layer in network.modules() if isinstance(layer, nn.Dropout)] for network in (default, without)
    ]
    assert rates == [[0.1], [0]]
    without.load_state_dict(default.state_dict())
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(default.eval()(images), without.train()(images), rtol=0, atol=1e-5)
    for dropout in (-0.1, 1):
        with pytest.raises(UserError, match=f"--model.network.dropout is {dropout:g}"):
            kind(dropout=dropout)


def test_state_dicts_have_the_tutorials_keys() -> None:
    layers = {"features.0", "features.2", "features.5", "features.7", "classifier.0", "classifier.3"}
    assert {key.rpartition(".")[0] for key in DeepNN().state_dict()} == layers
    assert {key.rpartition(".")[0] for key in LightNN().state_dict()} == layers - {
        "features.2",
        "features.5",
        "features.7",
    } | {"features.3"}


@pytest.mark.parametrize("kind", [DeepNN, LightNN])
def test_networks_are_built_for_other_images_and_classes(kind: type[DeepNN | LightNN]) -> None:
    network = kind(num_classes=7, in_channels=1, image_size=28)
    assert network(torch.randn(1, 1, 28, 28)).shape == (1, 7)


@pytest.mark.parametrize("kind", [DeepNN, LightNN])
def test_training_and_evaluation_order_their_layers_differently_with_the_same_values_and_gradients(
    kind: type[DeepNN | LightNN],
) -> None:
    network = kind(image_size=8).double()
    images, results = torch.randn(16, 3, 8, 8, dtype=torch.float64), []
    for training in (True, False):
        network.zero_grad()
        values = network.train(training).features(images)
        values.square().sum().backward()
        results.append([values.detach(), *(values.grad for values in network.features.parameters())])
    for first, second in zip(*results, strict=True):
        assert first is not None
        assert second is not None
        assert torch.allclose(first, second, rtol=1e-12, atol=1e-12)
