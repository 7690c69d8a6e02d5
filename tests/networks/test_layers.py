import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

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


class Tokens(nn.Module):
    """Cuts images into tokens of 4 pixels, after others of zeros, or into a map with its channels last."""

    def __init__(self, prefix: int, is_map: bool) -> None:
        super().__init__()
        self.prefix, self.is_map = prefix, is_map

    def forward(self, images: Tensor) -> Tensor:
        patches = functional.avg_pool2d(images, 4).permute(0, 2, 3, 1)
        return patches if self.is_map else functional.pad(patches.flatten(1, 2), (0, 0, self.prefix, 0))


class OfTokens(Network):
    """Classifies the mean of its tokens."""

    def __init__(self, image_size: int = 16, prefix: int = 0, is_map: bool = False) -> None:
        super().__init__(2, 3, image_size)
        self.body, self.head = Tokens(prefix, is_map), nn.Linear(3, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images).reshape(len(images), -1, 3).mean(1))  # type: ignore[no-any-return]


@pytest.mark.parametrize("prefix", [0, 1, 2, 5])
def test_tokens_become_the_map_of_their_positions(prefix: int) -> None:
    extract, images = extractor(OfTokens(prefix=prefix), ["body"]), torch.randn(2, 3, 16, 16)
    assert extract.shapes["body"] == (3, 4, 4)
    assert torch.equal(extract(images).maps["body"], functional.avg_pool2d(images, 4))
    others = {0: "", 1: " after 1 other token"}.get(prefix, f" after {prefix} other tokens")
    assert extract.layout_lines() == [f"'body' of OfTokens gives {16 + prefix} tokens, read as a map of 4x4{others}"]


def test_maps_with_their_channels_last_become_maps() -> None:
    extract, images = extractor(OfTokens(is_map=True), ["body"]), torch.randn(2, 3, 16, 16)
    assert torch.equal(extract(images).maps["body"], functional.avg_pool2d(images, 4))
    assert extract.layout_lines() == ["'body' of OfTokens gives 4x4x3, read as a map of 4x4 with its channels last"]
    cube = OfTokens(12, is_map=True)
    assert extractor(cube, ["body"]).layout_lines() == []  # of 3x3x3: torch's order, unless the network says otherwise
    cube.output_fmt = "NHWC"  # type: ignore[assignment]
    assert len(extractor(cube, ["body"]).layout_lines()) == 1


def test_tokens_that_can_be_two_maps_need_the_networks_word() -> None:
    network = OfTokens(8, prefix=5)
    with pytest.raises(UserError) as refused:
        extractor(network, ["body"])
    assert str(refused.value) == (
        "the layer 'body' of OfTokens gives 9 tokens, which are a map of 3x3 or a map of 2x2 after 5 other tokens; say "
        "in an attribute num_prefix_tokens of the network how many others it has."
    )
    for known, shape in ((5, (3, 2, 2)), (0, (3, 3, 3)), (1, (3, 3, 3))):
        network.num_prefix_tokens = known  # type: ignore[assignment]
        assert extractor(network, ["body"]).shapes["body"] == shape


def test_tokens_that_training_leaves_out_are_refused() -> None:
    class Dropped(OfTokens):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images[:, :, :8, :8] if self.training else images)

    with pytest.raises(UserError, match="gives other tokens in training than in evaluation"):
        extractor(Dropped(), ["body"])
