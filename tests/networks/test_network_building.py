from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TinyNetwork
from torch import nn
from weights_example import info_of

from kd_lightning.errors import UserError
from kd_lightning.networks import Network, ResNet
from kd_lightning.networks.building import TooLargeError, build_network
from kd_lightning.networks.weights import load_model


class NeedsValues(TinyNetwork):
    """Its constructor reads a tensor's value, which fails on the meta device."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.rate = torch.linspace(0, 1, 3)[1].item()


class Deep(TinyNetwork):
    """Has as many layers as its argument."""

    def __init__(self, depth: int = 1, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.layers = nn.Sequential()
        for number in range(depth):
            self.layers.add_module(str(number), nn.ReLU())


def test_a_constructor_that_cannot_do_without_memory_is_run_all_the_same() -> None:
    built = build_network(NeedsValues, {"width": 5}, NeedsValues(width=5).state_dict())
    assert isinstance(built, NeedsValues)
    assert built.rate == 0.5


@pytest.mark.parametrize(("kind", "arguments"), [(TinyNetwork, {"width": 10**9}), (Deep, {"depth": 10**9})])
def test_arguments_of_a_far_larger_network_than_the_weights_stop_before_they_take_memory(
    kind: type[Network], arguments: dict[str, int]
) -> None:
    with pytest.raises(TooLargeError):
        build_network(kind, arguments, kind().state_dict())  # type: ignore[call-arg]
    assert nn.Linear(2, 2).weight.shape == (2, 2)  # other networks are built as before


@pytest.mark.parametrize(
    ("wrapped", "key"), [("module._orig_mod.", "state_dict"), ("module.", "model_state_dict"), ("_orig_mod.", "model")]
)
def test_weights_are_read_as_parallel_and_compiled_training_saves_them(tmp_path: Path, wrapped: str, key: str) -> None:
    network = TinyNetwork()
    weights = {wrapped + name: value for name, value in network.state_dict().items()}
    torch.save({"model_info": info_of(network).to_plain(), key: weights}, tmp_path / "a.pth")
    loaded, _ = load_model(tmp_path / "a.pth")
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in loaded.state_dict().items())


def test_the_class_of_a_network_is_imported_only_where_the_user_names_it(tmp_path: Path) -> None:
    network = TinyNetwork()
    info = info_of(network).to_plain() | {"network": "my_networks.TinyNetwork"}
    torch.save({"model_info": info, "state_dict": network.state_dict()}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=r"name its class, as in `--network my_networks\.TinyNetwork`"):
        load_model(tmp_path / "a.pth")
    assert isinstance(load_model(tmp_path / "a.pth", "tiny.TinyNetwork")[0], TinyNetwork)
    with pytest.raises(UserError, match=r"network my_networks\.TinyNetwork, but --network is .*LightNN"):
        load_model(tmp_path / "a.pth", "kd_lightning.networks.LightNN")
    with pytest.raises(UserError, match=r"--network is os\.path\.join, which is not an nn.Module"):
        load_model(tmp_path / "a.pth", "os.path.join")
    with pytest.raises(UserError, match=r"--network is nowhere\.Net, but there is no such class"):
        load_model(tmp_path / "a.pth", "nowhere.Net")


class Shared(TinyNetwork):
    """One weight for many layers, each of which is built with its own."""

    def __init__(self, shares: bool = True, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.layers = nn.ModuleList(nn.Linear(1000, 1000, bias=False) for _ in range(12))
        for layer in self.layers if shares else ():
            layer.weight = self.layers[0].weight


def test_a_network_that_shares_its_weights_is_built_from_its_file() -> None:
    network = Shared()
    built = build_network(Shared, {}, network.state_dict())  # its names share their values in the file, too
    assert isinstance(built, Shared)
    assert len(list(built.parameters())) == len(list(network.parameters()))
    with pytest.raises(TooLargeError):  # else a hundred kilobytes would build gigabytes
        build_network(Shared, {"shares": False}, network.state_dict())


def test_a_file_for_images_that_take_all_memory_is_refused(tmp_path: Path) -> None:
    network = ResNet(10, 3, 32, depth=8)
    info = info_of(network).to_plain()
    larger = info | {"image_size": 4096, "arguments": info["arguments"] | {"image_size": 4096}}
    torch.save({"model_info": larger, "state_dict": network.state_dict()}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="its image size is not 1 to 1,024 pixels"):
        load_model(tmp_path / "a.pth")
