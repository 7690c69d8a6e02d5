"""timm's classifiers."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from tiny import TinyDataModule
from torch.nn import functional
from weights_example import info_of

from kd_lightning.data.loader import Batch
from kd_lightning.data.normalize import Normalization
from kd_lightning.errors import UserError
from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.losses import CrossEntropy, HardTargets, Loss
from kd_lightning.networks import LightNN, TimmNetwork
from kd_lightning.networks.layers import FeatureExtractor
from kd_lightning.networks.weights import load_model, save_weights
from kd_lightning.tasks import Classifier, Distill
from kd_lightning.teacher import Teacher


def test_a_file_of_a_network_of_timm_names_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = ModelInfo("kd_lightning.networks.timm.TimmNetwork", {}, ("a", "b"), (0.5,), (0.5,), 32)
    torch.save({"model_info": info.to_plain(), "state_dict": {"body.weight": torch.zeros(1)}}, tmp_path / "net.pth")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"^TimmNetwork needs the package timm; install it with `pip install timm`\.$"):
        load_model(tmp_path / "net.pth")


@pytest.mark.parametrize(("name", "layer"), [("test_resnet", "layer2"), ("test_vit", "blocks.3")])
@pytest.mark.parametrize(("channels", "size"), [(3, 32), (1, 64)])
def test_a_network_of_timm_trains_and_comes_back_from_a_file(
    name: str, layer: str, channels: int, size: int, tmp_path: Path
) -> None:
    network = TimmNetwork(4, channels, size, name).to_channels_last()
    images = torch.randn(2, channels, size, size)
    functional.cross_entropy(network(images), torch.tensor([0, 3])).backward()
    assert any(values.grad is not None and values.grad.any() for values in network.parameters())
    extract = FeatureExtractor(network, [layer], network.layer_root(), network.image_shape)
    assert extract(images).maps[layer].shape[1:] == extract.shapes[layer]
    if channels == 3:  # as in an example's info
        save_weights(tmp_path / "net.pth", network, info_of(network))
        loaded, _ = load_model(tmp_path / "net.pth")
        assert torch.equal(loaded.to_channels_last()(images), network.eval()(images))
        assert loaded.arguments == network.arguments


def test_weights_are_requested_once_and_not_where_a_network_is_built_again(monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[dict[str, Any]] = []
    make = timm.create_model

    def create(name: str, pretrained: bool, **options: Any) -> Any:
        requests.append({"pretrained": pretrained, **options})
        return make(name, **options)

    monkeypatch.setattr(timm, "create_model", create)
    network = TimmNetwork(4, 1, 64, "test_vit", pretrained=True)
    network.rebuilt()
    assert requests[0] == {"pretrained": True, "num_classes": 4, "in_chans": 1, "img_size": 64}
    assert requests[1] == {**requests[0], "pretrained": False}


def test_weights_that_cannot_be_loaded_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:

    def create(name: str, **_: Any) -> Any:
        raise ConnectionError("no network")

    monkeypatch.setattr(timm, "create_model", create)
    with pytest.raises(
        UserError, match=r"test_vit of timm cannot be loaded with its weights \(no network\); begin without weights"
    ):
        TimmNetwork(name="test_vit", pretrained=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "test_resnett"}, "timm has no classifier 'test_resnett'; choose one, such as test_resnet"),
        ({"name": "test_resnet.nonsense"}, "timm has no classifier 'test_resnet.nonsense'"),
        ({"name": "hf-hub:someone/something"}, "timm has no classifier 'hf-hub:someone/something'"),
        ({"name": "local-dir:."}, "timm has no classifier 'local-dir:"),
        (
            {"name": "test_vit", "image_size": 8},
            r"test_vit of timm does not take images of 8 pixels \(.+\); set --data",
        ),
    ],
)
def test_classifiers_that_timm_does_not_have_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TimmNetwork(**options)


def test_small_images_are_resized_in_front_of_the_network(tmp_path: Path) -> None:
    network = TimmNetwork(4, 3, 16, "test_vit", resize=64).to_channels_last().eval()
    images = torch.randn(2, 3, 16, 16)
    large = functional.interpolate(images, size=(64, 64), mode="bilinear")
    assert torch.equal(network(images), network.body(large))
    extract = FeatureExtractor(network, ["blocks.3"], network.layer_root(), network.image_shape)
    assert extract.shapes["blocks.3"] == (64, 4, 4)
    save_weights(tmp_path / "net.pth", network, replace(info_of(network), image_size=16))
    assert torch.equal(load_model(tmp_path / "net.pth")[0](images), network(images))
    with pytest.raises(
        UserError, match=r"--model\.network\.resize is 8; TimmNetwork needs 0, or the images' 16 pixels"
    ):
        TimmNetwork(4, 3, 16, "test_vit", resize=8)


def test_a_pretrained_teacher_without_a_file_sees_images_as_its_weights_were_trained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained, **options: make(name, **options))
    network = TimmNetwork(4, 3, 32, "test_vit", pretrained=True)
    own = network.normalization
    assert own == Normalization((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    teacher, data = Teacher(network), TinyDataModule()
    data.setup("fit")
    assert teacher.adapt(data) == [
        "normalizes images as those were that its weights were trained on",
        "sees images of 32 pixels",
    ]
    pixels = torch.randint(0, 256, (2, 3, 8, 8)).float()
    large = functional.interpolate(own.apply(pixels), size=32, mode="bilinear", antialias=True)
    torch.testing.assert_close(teacher(data.normalization.apply(pixels)), network(large), rtol=1e-4, atol=1e-5)
    Classifier(network)
    assert network.normalization is None


def test_the_distillation_token_of_a_network_of_timm_learns_from_the_teacher() -> None:
    network, heads = TimmNetwork(5, 3, 32, "deit_tiny_distilled_patch16_224"), dict[str, torch.Tensor]()
    losses: dict[str, Loss] = {"labels": CrossEntropy(), "hard": HardTargets()}
    task = Distill(network, Teacher(LightNN(5, 3, 32)), losses)
    for name in ("head", "head_dist"):
        network.body.get_submodule(name).register_forward_hook(lambda _, __, out, name=name: heads.update({name: out}))
    images = torch.randn(2, 3, 32, 32)
    step = task.step(Batch(images, torch.tensor([0, 3]), torch.arange(2)))
    assert torch.equal(step.logits, heads["head"])
    assert step.losses["hard"] == functional.cross_entropy(heads["head_dist"], task.teacher(images).argmax(1))
    assert torch.equal(network.eval()(images), (heads["head"] + heads["head_dist"]) / 2)
