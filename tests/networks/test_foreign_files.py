"""Files of RepDistiller and mdistiller: the arithmetic by the names of weights, and two networks in one file."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from kd_lightning.errors import UserError
from kd_lightning.networks import MobileNetV2, Network, ResNet, ResNet50, ShuffleNetV1, ShuffleNetV2
from kd_lightning.networks.weights import load_weights

State = dict[str, Tensor]


class Layers:
    """The layers of a state dict in evaluation mode, by name; records which weights were used."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.used: set[str] = set()

    def get(self, name: str) -> Tensor:
        self.used.add(name)
        return self.state[name]

    def normalized(self, x: Tensor, conv: str, norm: str, stride: int = 1) -> Tensor:
        weight = self.get(f"{conv}.weight")
        x = functional.conv2d(x, weight, None, stride, weight.shape[-1] // 2, groups=x.shape[1] // weight.shape[1])
        self.used.add(f"{norm}.num_batches_tracked")
        mean, var, scale, bias = (
            self.get(f"{norm}.{name}") for name in ("running_mean", "running_var", "weight", "bias")
        )
        return functional.batch_norm(x, mean, var, scale, bias)

    def linear(self, x: Tensor, name: str) -> Tensor:
        return functional.linear(x.mean((2, 3)), self.get(f"{name}.weight"), self.get(f"{name}.bias"))


def shuffled(x: Tensor, groups: int) -> Tensor:
    return x.view(len(x), groups, -1, *x.shape[2:]).transpose(1, 2).reshape(x.shape)


def mobilenet(layers: Layers, x: Tensor) -> Tensor:
    x = layers.normalized(x, "conv1.0", "conv1.1", 2).relu()
    for stage, blocks in enumerate((1, 2, 3, 4, 3, 3, 1)):
        for block in range(blocks):
            name, stride = f"blocks.{stage}.{block}.conv", 2 if stage in (2, 3, 5) and block == 0 else 1
            y = layers.normalized(x, f"{name}.0", f"{name}.1").relu()
            y = layers.normalized(y, f"{name}.3", f"{name}.4", stride).relu()
            y = layers.normalized(y, f"{name}.6", f"{name}.7")
            x = x + y if block else y
    return layers.linear(layers.normalized(x, "conv2.0", "conv2.1").relu(), "classifier.0")


def shufflenet_v1(layers: Layers, x: Tensor) -> Tensor:
    x = layers.normalized(x, "conv1", "bn1").relu()
    for stage, blocks in enumerate((4, 8, 4), start=1):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            y = layers.normalized(x, f"{name}.conv1", f"{name}.bn1").relu()
            y = shuffled(y, 1 if (stage, block) == (1, 0) else 3)
            y = layers.normalized(y, f"{name}.conv2", f"{name}.bn2", 1 if block else 2).relu()
            y = layers.normalized(y, f"{name}.conv3", f"{name}.bn3")
            x = (x + y if block else torch.cat([y, functional.avg_pool2d(x, 3, 2, 1)], 1)).relu()
    return layers.linear(x, "linear")


def shufflenet_v2(layers: Layers, x: Tensor) -> Tensor:
    x = layers.normalized(x, "conv1", "bn1").relu()
    for stage, blocks in enumerate((4, 8, 4), start=1):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            a, b = x.chunk(2, 1) if block else (x, x)
            first = 1
            if not block:
                a = layers.normalized(a, f"{name}.conv1", f"{name}.bn1", 2)
                a, first = layers.normalized(a, f"{name}.conv2", f"{name}.bn2").relu(), 3
            b = layers.normalized(b, f"{name}.conv{first}", f"{name}.bn{first}").relu()
            b = layers.normalized(b, f"{name}.conv{first + 1}", f"{name}.bn{first + 1}", 1 if block else 2)
            b = layers.normalized(b, f"{name}.conv{first + 2}", f"{name}.bn{first + 2}").relu()
            x = shuffled(torch.cat([a, b], 1), 2)
    return layers.linear(layers.normalized(x, "conv2", "bn2").relu(), "linear")


def resnet50(layers: Layers, x: Tensor) -> Tensor:
    x = layers.normalized(x, "conv1", "bn1").relu()
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        for block in range(blocks):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = layers.normalized(x, f"{name}.conv1", f"{name}.bn1").relu()
            y = layers.normalized(y, f"{name}.conv2", f"{name}.bn2", stride).relu()
            y = layers.normalized(y, f"{name}.conv3", f"{name}.bn3")
            x = x if block else layers.normalized(x, f"{name}.shortcut.0", f"{name}.shortcut.1", stride)
            x = (x + y).relu()
    return layers.linear(x, "linear")


CASES: list[tuple[Network, Callable[[Layers, Tensor], Tensor]]] = [
    (MobileNetV2(), mobilenet),
    (ResNet50(width=8), resnet50),
    (ShuffleNetV1(), shufflenet_v1),
    (ShuffleNetV2(), shufflenet_v2),
    (ShuffleNetV2(width=2.0), shufflenet_v2),
]


def other_weights(network: Network, seed: int) -> State:
    """Draw weights with the names and shapes of a network's, none with an initial value of layers."""
    draws, state = torch.Generator().manual_seed(seed), dict(network.state_dict())
    for name, values in state.items():
        if values.is_floating_point():
            low = 0.5 if name.endswith("running_var") else -0.4
            state[name] = torch.rand(values.shape, generator=draws, dtype=values.dtype) + low
    return state


@pytest.mark.parametrize(("network", "by_names"), CASES)
def test_weights_of_repdistiller_give_its_logits(
    network: Network, by_names: Callable[[Layers, Tensor], Tensor], tmp_path: Path
) -> None:
    network = network.double().eval()
    layers, images = Layers(other_weights(network, 0)), torch.rand(2, 3, 32, 32, dtype=torch.float64)
    torch.save({"epoch": 240, "model": layers.state}, tmp_path / "ckpt_epoch_240.pth")
    load_weights(network, tmp_path / "ckpt_epoch_240.pth")
    logits, expected = network(images), by_names(layers, images)
    assert layers.used == layers.state.keys()
    assert torch.allclose(logits, expected, rtol=1e-9)


def mdistiller_file(path: Path, student: State, teacher: State | None) -> Path:
    """Write a checkpoint as mdistiller does, in which CRD and FitNet keep further weights."""
    parts = {"student": student, **({"teacher": teacher} if teacher else {})}
    model = {f"module.{part}.{name}": values for part, state in parts.items() for name, values in state.items()}
    model["module.conv_reg.conv.weight"] = torch.zeros(2)
    torch.save({"epoch": 240, "model": model, "optimizer": {}, "best_acc": torch.tensor(72.5)}, path)
    return path


def test_of_a_checkpoint_of_mdistiller_the_part_that_fits_is_taken(tmp_path: Path) -> None:
    small, large = ResNet(depth=8), ResNet(depth=14)
    states = other_weights(small, 1), other_weights(large, 2)
    path = mdistiller_file(tmp_path / "best", *states)
    for network, state in zip((small, large), states, strict=True):
        load_weights(network, path)
        assert all(torch.equal(values, state[name]) for name, values in network.state_dict().items())
    with pytest.raises(UserError, match="weights of another network than ResNet"):
        load_weights(ResNet(depth=20), path)


def test_a_checkpoint_with_a_student_and_a_teacher_of_one_class_is_refused(tmp_path: Path) -> None:
    network = ResNet(depth=8)
    mine, other = other_weights(network, 1), other_weights(network, 2)
    with pytest.raises(UserError, match="which both fit this network; give the file of one of them"):
        load_weights(network, mdistiller_file(tmp_path / "best", mine, other))
    load_weights(network, mdistiller_file(tmp_path / "vanilla", mine, None))
    assert torch.equal(network.state_dict()["fc.weight"], mine["fc.weight"])
