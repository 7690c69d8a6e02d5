"""torchvision's classifiers: their weights, their stems for small images, what they refuse."""

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from file_server import FileServer
from torch import Tensor, nn
from torch.nn import functional
from torchvision import models
from weights_example import info_of

from kd_lightning.errors import UserError
from kd_lightning.networks import TorchvisionNetwork
from kd_lightning.networks.torchvision import STEMS, find_weights
from kd_lightning.networks.weights import load_model, save_weights

NAME = "squeezenet1_1"
HEAD = {"classifier.1.weight", "classifier.1.bias"}


def file_of(content: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


@pytest.fixture(scope="module")
def trained() -> dict[str, Tensor]:
    return models.get_model(NAME, weights=None).state_dict()  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def content(trained: dict[str, Tensor]) -> bytes:
    return file_of(trained)


@pytest.fixture
def downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    return tmp_path / "checkpoints"


@pytest.fixture
def server(content: bytes) -> Iterator[FileServer]:
    with FileServer(content) as server:
        yield server


def name_of(content: bytes) -> str:
    return f"{NAME}-{hashlib.sha256(content).hexdigest()[:8]}.pth"


def serve(monkeypatch: pytest.MonkeyPatch, source: str, content: bytes, name: str = NAME) -> None:
    """Set another URL of torchvision's weights."""
    (weights,) = models.get_model_weights(name)
    monkeypatch.setattr(weights.value, "url", f"{source}/{name_of(content)}")


def test_pretrained_weights_are_downloaded_once_and_the_last_layer_begins_untrained(
    monkeypatch: pytest.MonkeyPatch, server: FileServer, downloads: Path, content: bytes, trained: dict[str, Tensor]
) -> None:
    serve(monkeypatch, server.source("plain"), content)
    for _ in range(2):
        network = TorchvisionNetwork(7, name=NAME, weights="DEFAULT")
        own = network.body.state_dict()
        assert {key for key in own if not torch.equal(own[key], trained[key])} == HEAD
        assert own["classifier.1.weight"].shape[0] == 7
    assert len(server.requests) == 1
    assert (downloads / name_of(content)).read_bytes() == content
    whole = TorchvisionNetwork(1000, name=NAME, weights="IMAGENET1K_V1").body.state_dict()
    assert all(torch.equal(whole[key], trained[key]) for key in trained)


def test_a_file_of_a_pretrained_network_is_loaded_without_a_download(
    monkeypatch: pytest.MonkeyPatch, downloads: Path, content: bytes, tmp_path: Path
) -> None:
    serve(monkeypatch, "http://127.0.0.1:1", content)
    downloads.mkdir()
    (downloads / name_of(content)).write_bytes(content)
    network = TorchvisionNetwork(7, name=NAME, weights="DEFAULT")
    save_weights(tmp_path / "net.pth", network, info_of(network))
    (downloads / name_of(content)).unlink()
    loaded, info = load_model(tmp_path / "net.pth")
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(loaded(images), network.eval()(images))
    assert "weights" not in info.arguments
    assert network.rebuilt(image_size=64).image_size == 64
    with pytest.raises(
        UserError, match=r"squeezenet1_1 of torchvision cannot be loaded with its weights \(.*refused.*begin without"
    ):
        TorchvisionNetwork(7, name=NAME, weights="DEFAULT")


@pytest.mark.parametrize(("way", "message"), [("missing", "HTTP Error 404"), ("truncated", "invalid hash value")])
def test_a_download_that_fails_is_one_sentence_and_leaves_nothing(
    way: str, message: str, monkeypatch: pytest.MonkeyPatch, server: FileServer, downloads: Path, content: bytes
) -> None:
    serve(monkeypatch, server.source(way), content)
    with pytest.raises(
        UserError, match=rf"cannot be loaded with its weights \(.*{message}.*or choose another network\.$"
    ):
        TorchvisionNetwork(name=NAME, weights="DEFAULT")
    assert not list(downloads.iterdir())


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"weight": torch.nn.ReLU()}, "Weights only load failed"),
        ({"classifier.1.weight": torch.zeros(1000, 512, 1, 1)}, "they are those of another network"),
    ],
)
def test_a_file_with_something_else_is_refused(
    found: Any, message: str, monkeypatch: pytest.MonkeyPatch, downloads: Path
) -> None:
    content = file_of(found)
    serve(monkeypatch, "http://127.0.0.1:1", content)
    downloads.mkdir()
    (downloads / name_of(content)).write_bytes(content)
    with pytest.raises(UserError, match=message):
        TorchvisionNetwork(name=NAME, weights="DEFAULT")


def test_densenets_weights_are_loaded_by_the_names_of_when_they_were_saved(
    monkeypatch: pytest.MonkeyPatch, downloads: Path
) -> None:
    trained = models.get_model("densenet121", weights=None).state_dict()
    old = {key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): value for key, value in trained.items()}
    assert old.keys() != trained.keys()
    content = file_of(old)
    serve(monkeypatch, "http://127.0.0.1:1", content, "densenet121")
    downloads.mkdir()
    (downloads / name_of(content)).write_bytes(content)
    own = TorchvisionNetwork(7, name="densenet121", weights="DEFAULT", small_images=True).body.state_dict()
    different = {key for key in own if not torch.equal(own[key], trained[key])}
    assert different == {"features.conv0.weight", "classifier.weight", "classifier.bias"}


@pytest.mark.parametrize("name", ["mnasnet0_5", "shufflenet_v2_x0_5"])
def test_networks_for_small_images_keep_their_size_at_first_and_come_back_from_a_file(
    name: str, tmp_path: Path
) -> None:
    network = TorchvisionNetwork(4, name=name, small_images=True)
    first, pooling = STEMS[type(network.body).__name__]
    sizes: list[torch.Size] = []
    for layer in filter(None, (first, pooling)):
        network.body.get_submodule(layer).register_forward_hook(lambda _, __, value: sizes.append(value.shape[2:]))
    network(torch.randn(2, 3, 32, 32)).sum().backward()
    assert set(sizes) == {(32, 32)}
    save_weights(tmp_path / "net.pth", network, info_of(network))
    loaded, _ = load_model(tmp_path / "net.pth")
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(loaded(images), network.eval()(images))


def test_resnet18_for_small_images_has_the_known_number_of_parameters() -> None:
    network = TorchvisionNetwork(10, small_images=True)
    assert sum(values.numel() for values in network.parameters()) == 11_173_962
    layer1 = nn.Sequential(*list(network.body.children())[:5])
    assert layer1(torch.randn(1, 3, 64, 64)).shape == (1, 64, 64, 64)


@pytest.mark.parametrize(("name", "size"), [("mobilenet_v3_small", 64), ("googlenet", 32)])
def test_a_network_of_torchvision_trains(name: str, size: int) -> None:
    network = TorchvisionNetwork(3, 3, size, name).to_channels_last()
    functional.cross_entropy(network(torch.randn(2, 3, size, size)), torch.tensor([0, 2])).backward()
    assert all(values.grad is not None for values in network.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "resnet"}, "torchvision has no classifier 'resnet'"),
        ({"weights": "BEST"}, "no weights 'BEST' of resnet18; set weights to one of IMAGENET1K_V1, DEFAULT"),
        ({"name": "googlenet", "weights": "DEFAULT"}, "weights of googlenet are for another normalization"),
        ({"in_channels": 1, "weights": "DEFAULT"}, "takes colour images, not 1 channel"),
        ({"name": NAME, "small_images": True}, "small_images is not defined for squeezenet1_1; .* DenseNet, Eff"),
        ({"name": NAME, "image_size": 8}, r"squeezenet1_1 of torchvision does not take images of 8 pixels \(.+\); set"),
        ({"name": "maxvit_t"}, r"maxvit_t of torchvision does not take images of 32 pixels \(Input size \(8, 8\)"),
    ],
)
def test_classifiers_that_torchvision_does_not_have_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TorchvisionNetwork(**options)


def test_the_features_of_vgg16_are_not_weights_of_a_classifier() -> None:
    assert "vgg16-" in find_weights("vgg16", "DEFAULT").url
    with pytest.raises(UserError, match="no weights 'IMAGENET1K_FEATURES' of vgg16"):
        find_weights("vgg16", "IMAGENET1K_FEATURES")
