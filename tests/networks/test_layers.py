from collections import Counter

import pytest
import torch
from torch import Tensor, nn

from kd_lightning.errors import UserError
from kd_lightning.networks import DeepNN, LightNN, Network, TorchvisionNetwork
from kd_lightning.networks.layers import FeatureExtractor, find_layer

SHIPPED: list[type[Network]] = [LightNN, DeepNN]


def extractor(network: Network, layers: list[str]) -> FeatureExtractor:
    return FeatureExtractor(network, layers, network.layer_root(), network.image_shape)


def layer_names(network: Network) -> list[str]:
    return [name for name, _ in network.layer_root().named_modules() if name]


@pytest.mark.parametrize("kind", SHIPPED)
def test_every_layer_gives_in_training_what_it_gives_in_evaluation(kind: type[Network]) -> None:
    torch.manual_seed(0)
    network = kind(4, 3, 8)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # the only random layer
    images = torch.randn(3, 3, 8, 8)
    for name in layer_names(network):
        extract = extractor(network, [name])
        training = extract(images)
        network.eval()
        evaluated = extract(images)
        network.train()
        assert torch.allclose(training.maps[name], evaluated.maps[name], atol=1e-6), name
        assert torch.allclose(training.logits, evaluated.logits, atol=1e-6), name
        assert training.maps[name].shape[1:] == extract.shapes[name]


def test_layers_of_torchvision_give_in_training_what_they_give_in_evaluation() -> None:
    torch.manual_seed(0)
    network, images = TorchvisionNetwork(name="mobilenet_v2").train(), torch.randn(2, 3, 32, 32)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.Dropout):
            module.eval()  # what a batch's statistics and chance change; every other layer stays in training
    layers = layers_that_run_once(network, images)
    assert len(layers) > 40
    extract = extractor(network, layers)
    training = extract(images)
    network.eval()
    evaluated = extract(images)
    for layer in layers:
        assert torch.allclose(training.maps[layer], evaluated.maps[layer], atol=1e-5), layer


def layers_that_run_once(network: Network, images: Tensor) -> list[str]:
    calls: Counter[str] = Counter()
    for name in layer_names(network):
        layer = network.layer_root().get_submodule(name)
        layer.register_forward_hook(lambda *_, name=name: calls.update([name]))
    network(images)
    for layer in network.modules():
        layer._forward_hooks.clear()
    return [name for name, count in calls.items() if count == 1]


def test_a_map_that_a_later_layer_overwrites_is_extracted_before() -> None:
    class Net(Network):
        def __init__(self) -> None:
            super().__init__(2, 3, 8)
            self.first, self.second = nn.Linear(3, 2), nn.ReLU(inplace=True)

        def forward(self, images: Tensor) -> Tensor:
            return self.second(self.first(images.mean((2, 3))))  # type: ignore[no-any-return]

    torch.manual_seed(0)
    network, images = Net(), 5 * torch.randn(16, 3, 8, 8)
    seen = extractor(network, ["first"])(images).maps["first"]
    assert torch.equal(seen, network.first(images.mean((2, 3))))
    assert (seen < 0).any()


@pytest.mark.parametrize(
    ("layer", "message"),
    [("layr2", r"ResNet has no layer 'layr2'; .*layer2"), ("layer1.0.relu", "runs 2 times in a pass")],
)
def test_a_layer_that_cannot_be_extracted_is_refused(layer: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        extractor(TorchvisionNetwork(), [layer])


def test_layers_are_found_by_their_dotted_paths() -> None:
    network = LightNN()
    assert find_layer(network, "features.0") is network.features[0]


def test_gradients_of_an_extracted_layer_reach_the_layers_before_it() -> None:
    network = LightNN(image_size=8)
    extractor(network, ["features.2"])(torch.randn(2, 3, 8, 8)).maps["features.2"].sum().backward()
    assert network.features[0].weight.grad is not None
    assert network.classifier[0].weight.grad is None
