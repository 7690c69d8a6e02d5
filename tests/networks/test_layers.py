import pytest
import torch
from torch import Tensor, nn

from kd_lightning.errors import UserError
from kd_lightning.networks import LightNN, Network, TorchvisionNetwork
from kd_lightning.networks.layers import FeatureExtractor, find_layer


def extractor(network: Network, layers: list[str]) -> FeatureExtractor:
    return FeatureExtractor(network, layers, network.layer_root(), network.image_shape)


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
