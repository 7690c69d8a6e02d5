"""The networks for small images: their sizes, by an independent count, and what every family must do."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional

from kd_lightning.errors import UserError
from kd_lightning.networks import (
    VGG,
    DeepNN,
    LightNN,
    MobileNetV2,
    Network,
    ResNet,
    ResNet9,
    ResNet50,
    ShuffleNetV1,
    ShuffleNetV2,
    TorchvisionNetwork,
    WideResNet,
)
from kd_lightning.networks.layers import FeatureExtractor

SMALL: dict[str, Callable[..., Network]] = {
    "ResNet9": partial(ResNet9, width=4),
    "ResNet": partial(ResNet, depth=8),
    "ResNet x4": partial(ResNet, depth=8, width=4),
    "ResNet50": partial(ResNet50, width=4),
    "WideResNet": partial(WideResNet, depth=10, width=1),
    "VGG": partial(VGG, depth=8),
    "MobileNetV2": partial(MobileNetV2, width=0.25),
    "ShuffleNetV1": ShuffleNetV1,
    "ShuffleNetV2": partial(ShuffleNetV2, width=0.5),
}
"""A small network of each family."""

STAGES: dict[str, dict[str, tuple[int, int]]] = {
    "ResNet9": {"stem": (4, 32), "layer1": (8, 16), "layer2": (16, 8), "layer3": (32, 4)},
    "ResNet": {"relu": (16, 32), "layer1": (16, 32), "layer2": (32, 16), "layer3": (64, 8)},
    "ResNet x4": {"relu": (32, 32), "layer1": (64, 32), "layer2": (128, 16), "layer3": (256, 8)},
    "ResNet50": {"relu": (4, 32), "layer1": (16, 32), "layer2": (32, 16), "layer3": (64, 8), "layer4": (128, 4)},
    "WideResNet": {"conv1": (16, 32), "block1": (16, 32), "block2": (32, 16), "block3": (64, 8), "relu": (64, 8)},
    "VGG": {"block0": (64, 32), "block1": (128, 16), "block2": (256, 8), "block3": (512, 4), "block4": (512, 4)},
    "MobileNetV2": {
        "conv1": (8, 16),
        "blocks.1": (6, 16),
        "blocks.2": (8, 8),
        "blocks.4": (24, 4),
        "blocks.6": (80, 2),
    },
    "ShuffleNetV1": {"relu": (24, 32), "layer1": (240, 16), "layer2": (480, 8), "layer3": (960, 4)},
    "ShuffleNetV2": {"relu1": (24, 32), "layer1": (48, 16), "layer2": (96, 8), "layer3": (192, 4), "relu2": (1024, 4)},
}
"""Channels and size of the maps of layers that losses name, for images of 32 pixels."""


def small_network(family: str, classes: int = 5, channels: int = 3, size: int = 32) -> Network:
    torch.manual_seed(0)
    return SMALL[family](classes, channels, size)


@pytest.mark.parametrize("family", SMALL)
@pytest.mark.parametrize(("channels", "size"), [(3, 32), (1, 64)])
def test_a_step_on_images_of_a_size_moves_every_parameter(family: str, channels: int, size: int) -> None:
    network = small_network(family, 5, channels, size).to_channels_last()
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


OTHERS: dict[str, Callable[..., Network]] = {
    "LightNN": LightNN,
    "DeepNN": DeepNN,
    "torchvision": partial(TorchvisionNetwork, name="mobilenet_v2"),
}


@pytest.mark.parametrize("build", (SMALL | OTHERS).values(), ids=SMALL | OTHERS)
def test_layers_give_in_training_what_they_give_in_evaluation(build: Callable[..., Network]) -> None:
    torch.manual_seed(0)
    network = build(5, 3, 32).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.Dropout):
            module.eval()  # what a batch's statistics and chance change; every other layer stays in training
    layers = [name for name, _ in network.layer_root().named_modules() if name]
    extract, images = FeatureExtractor(network, layers, network.layer_root(), (3, 32, 32)), torch.randn(3, 3, 32, 32)
    training = extract(images)
    network.eval()
    evaluated = extract(images)
    for name in layers:
        assert torch.allclose(training.maps[name], evaluated.maps[name], atol=1e-5), name
        assert training.maps[name].shape[1:] == extract.shapes[name]


@pytest.mark.parametrize("family", STAGES)
def test_stages_have_their_channels_and_sizes(family: str) -> None:
    network = SMALL[family]()
    found = FeatureExtractor(network, STAGES[family], network, network.image_shape).shapes
    for name, (channels, size) in STAGES[family].items():
        assert found[name] == (channels, size, size), name


@pytest.mark.parametrize("family", SMALL)
def test_pool_gives_the_vectors_that_the_last_layer_sees(family: str) -> None:
    network = small_network(family).eval()
    last = list(network.modules())[-1]
    assert isinstance(last, nn.Linear)
    outputs = FeatureExtractor(network, ["pool"], network.layer_root(), network.image_shape)(torch.randn(2, 3, 32, 32))
    assert torch.allclose(last(outputs.maps["pool"]), outputs.logits, atol=1e-6)


@pytest.mark.parametrize(
    ("family", "layer", "signed"),
    [
        ("ResNet", "layer2", False),
        ("ResNet50", "layer3", False),
        ("ResNet50", "layer3.5.preact", True),
        ("WideResNet", "block2", True),
        ("WideResNet", "relu", False),
        ("VGG", "block2", False),
        ("ResNet9", "layer2", False),
        ("MobileNetV2", "blocks.2", True),
        ("ShuffleNetV1", "layer2", False),
        ("ShuffleNetV1", "layer2.7.preact", True),
        ("ShuffleNetV2", "layer2", False),
        ("ShuffleNetV2", "layer2.7.preact", True),
    ],
)
def test_maps_are_after_a_relu_where_the_docstring_of_the_network_states_it(
    family: str, layer: str, signed: bool
) -> None:
    network = small_network(family)
    maps = FeatureExtractor(network, [layer], network, network.image_shape)(torch.randn(2, 3, 32, 32)).maps
    assert bool((maps[layer] < 0).any()) == signed
    assert (maps[layer] > 0).any()


@pytest.mark.parametrize("family", SMALL)
def test_convolutions_are_initialized_by_he_and_those_of_shufflenets_by_torchs_defaults(family: str) -> None:
    for name, module in small_network(family).named_modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 500:
            he = (2 / (module.out_channels * module.kernel_size[0] ** 2)) ** 0.5
            expected = (3 * module.weight[0].numel()) ** -0.5 if family.startswith("Shuffle") else he
            assert module.weight.detach().std().item() == pytest.approx(expected, rel=0.15), name


@pytest.mark.parametrize(("family", "spread"), [("VGG", 0.01), ("MobileNetV2", 0.01), ("WideResNet", (3 * 64) ** -0.5)])
def test_the_last_layer_is_initialized_as_in_repdistiller(family: str, spread: float) -> None:
    last = list(small_network(family, 100).modules())[-1]
    assert isinstance(last, nn.Linear)
    assert last.weight.detach().std().item() == pytest.approx(spread, rel=0.03)
    assert not last.bias.any()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ResNet9(image_size=7), "ResNet9 takes images of 8 pixels or more, not 7"),
        (lambda: ResNet9(width=0), "--model.network.width is 0; ResNet9 needs 1 or more"),
        (
            lambda: ResNet(depth=18),
            r"^--model.network.depth is 18; ResNet needs 6n \+ 2 \(8, 14, 20, 26, 38, \.\.\.\)\.$",
        ),
        (lambda: WideResNet(depth=20), r"depth is 20; WideResNet needs 6n \+ 4 \(10, 16, 22, 28, 40, \.\.\.\)"),
        (lambda: VGG(depth=9), "--model.network.depth is 9; VGG needs one of 8, 11, 13, 16, 19"),
        (lambda: MobileNetV2(width=0.01), "--model.network.width is 0.01; MobileNetV2 needs a factor from 0.1 to 4"),
        (lambda: ShuffleNetV2(width=0.25), "--model.network.width is 0.25; ShuffleNetV2 needs one of 0.5, 1, 1.5, 2"),
    ],
)
def test_networks_that_cannot_be_built_are_refused(build: Callable[[], Network], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build()


def test_a_shuffle_interleaves_the_channels_of_groups_and_keeps_the_memory_format() -> None:
    shuffle = ShuffleNetV1().get_submodule("layer1.1.shuffle")
    channels = torch.arange(6.0).view(1, 6, 1, 1).expand(2, 6, 3, 4)  # three groups: 0 1, 2 3, 4 5
    for layout in (torch.contiguous_format, torch.channels_last):
        dealt = shuffle(channels.contiguous(memory_format=layout))
        assert dealt[1, :, 2, 3].tolist() == [0, 2, 4, 1, 3, 5]
    assert dealt.is_contiguous(memory_format=torch.channels_last)
