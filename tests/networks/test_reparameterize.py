"""Re-parameterized networks are fused into the plain ones."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fast_example import assert_same, train
from recorded_graph import Captures
from task_example import quick_trainer
from tiny import TinyDataModule
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD
from weights_example import info_of

from kd_lightning.errors import UserError
from kd_lightning.networks import LightNN, ModuleNetwork, Network
from kd_lightning.networks.fusable import FactoredWeight, FusableLayer, fused
from kd_lightning.networks.reparameterize import reparameterize_network
from kd_lightning.networks.weights import load_model, save_weights
from kd_lightning.tasks import Classifier, Task


class Strided(Network):
    """Convolutions of every kind, one layer twice, one without a bias, and a linear layer that is not the last."""

    works_with_fast_path = True

    def __init__(self, num_classes: int = 4, in_channels: int = 3, image_size: int = 8) -> None:
        super().__init__(num_classes, in_channels, image_size)
        self.stem = nn.Conv2d(in_channels, 6, 5, stride=2, padding=2)
        self.grouped = nn.Conv2d(6, 6, 3, padding="same", dilation=2, groups=3)
        self.again = self.grouped
        self.pointwise = nn.Conv2d(6, 5, 1, bias=False)
        self.hidden = nn.Linear(5, 7)
        self.out = nn.Conv2d(7, num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        values = self.again(self.grouped(self.stem(images).relu()).relu()).relu()
        values = self.hidden(self.pointwise(values).mean((2, 3))).relu()
        return self.out(values[..., None, None]).flatten(1)  # type: ignore[no-any-return]


NETWORKS: dict[str, Callable[[], Network]] = {
    "LightNN": lambda: LightNN(4, 3, 8),
    "strided": Strided,
}


def trained(network: Network, factor: int) -> Network:
    """The re-parameterized network after some steps, with statistics far from the initial ones."""
    torch.manual_seed(0)
    reparameterize_network(network, factor)
    optimizer = SGD(network.parameters(), lr=0.05, momentum=0.9)
    for _ in range(8):
        images = 3 * torch.randn(16, *network.image_shape) + 1
        loss = functional.cross_entropy(network(images), torch.arange(16) % 4)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network


def reparameterized_logits(network: Network, images: Tensor) -> Tensor:
    """The logits of the re-parameterized form, layer by layer, with its running statistics and without dropout."""
    network.eval()
    for layer in network.modules():
        if isinstance(layer, FusableLayer):
            layer.training = True  # its norm, one level below, stays in evaluation mode
    logits: Tensor = network(images)
    network.eval()
    return logits


@pytest.mark.parametrize("factor", [1, 4])
@pytest.mark.parametrize("name", NETWORKS)
def test_fused_and_reparameterized_logits_agree(name: str, factor: int) -> None:
    network = trained(NETWORKS[name](), factor)
    plain = fused(network)
    for count in (1, 7, 128):
        images = 3 * torch.randn(count, *network.image_shape) + 1
        expected = reparameterized_logits(network, images)
        assert float(expected.detach().std()) > 0.01
        for found in (plain.eval()(images), network.eval()(images)):
            assert torch.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_fused_network_is_the_plain_one(name: str, tmp_path: Path) -> None:
    plain, found = NETWORKS[name](), fused(trained(NETWORKS[name](), 3))
    assert type(found) is type(plain)
    assert found.arguments == plain.arguments
    assert [type(layer) for layer in found.modules()] == [type(layer) for layer in plain.modules()]
    shapes = {key: values.shape for key, values in plain.state_dict().items()}
    assert {key: values.shape for key, values in found.state_dict().items()} == shapes
    save_weights(tmp_path / "net.pth", found, info_of(found))
    loaded, _ = load_model(tmp_path / "net.pth")
    assert all(torch.equal(values, found.state_dict()[key]) for key, values in loaded.state_dict().items())


def test_a_convolution_is_the_product_of_its_factors() -> None:
    network = reparameterize_network(ModuleNetwork(3, 2, 6, "test_reparameterize.One"), 4)
    (layer,) = (layer for layer in network.modules() if isinstance(layer, FusableLayer))
    weight = layer.weight
    assert isinstance(weight, FactoredWeight)
    first, middle, last = weight.first, weight.middle, weight.last
    images = torch.randn(2, 2, 6, 6)
    values = functional.conv2d(images, first[:, :, None, None])
    values = functional.conv2d(values, middle.view(12, 3, 3, 8).permute(0, 3, 1, 2), padding=1)
    values = functional.conv2d(values, last[:, :, None, None], layer.bias)
    assert torch.allclose(layer(images), values, atol=1e-5)


class One(nn.Module):
    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.only = nn.Conv2d(in_channels, num_classes, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        return self.only(images).mean((2, 3))  # type: ignore[no-any-return]


def test_both_orders_of_pooling_and_normalization_are_fused_alike() -> None:
    """LightNN pools first in training, but not where its layers have hooks; files do not depend on it."""
    network = trained(LightNN(4, 3, 8), 4)
    images = torch.randn(5, 3, 8, 8)
    network.eval()
    expected = reparameterized_logits(network, images)
    network.get_submodule("features").training = True  # the quick order; the layers inside keep their own modes
    for layer in network.modules():
        if isinstance(layer, FusableLayer):
            layer.training = True
    assert torch.allclose(network(images), expected, atol=1e-5)


def classifier(fast: bool) -> Classifier:
    torch.manual_seed(1)
    return Classifier(
        LightNN(4, 3, 8), fast=fast, reparameterize=4, optimizer=lambda p: SGD(p, lr=2**-6, momentum=0.5, fused=True)
    )


def test_a_reparameterized_network_is_captured_and_resumed(captured_on_cpu: Captures, tmp_path: Path) -> None:
    data = {"count": 96}
    plain = train(classifier, False, data, max_epochs=3)
    assert_same(plain, train(classifier, True, data, max_epochs=3), exact=False)
    assert captured_on_cpu.replays > 2
    first, _ = train(classifier, False, data, max_epochs=1)
    first.save_checkpoint(tmp_path / "one.ckpt")
    assert_same(plain, train(classifier, False, data, tmp_path / "one.ckpt", max_epochs=3))


def test_a_checkpoint_gives_the_plain_network(tmp_path: Path) -> None:
    trainer, task = train(classifier, False, {"count": 96}, max_epochs=1)
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    loaded, info = load_model(tmp_path / "one.ckpt")
    images = torch.randn(3, 3, 8, 8)
    assert type(loaded) is LightNN
    assert info.network.endswith("LightNN")
    assert torch.allclose(loaded(images), task.eval()(images), atol=1e-5)


def first_weights(draws: int, networks: int = 1) -> list[dict[str, Tensor]]:
    """The first weights of networks that are re-parameterized in turn, after random draws for other things."""
    torch.manual_seed(7)
    built: list[Network] = [LightNN(4, 3, 8) for _ in range(networks)]
    torch.rand(draws)
    state = torch.get_rng_state()
    weights = [reparameterize_network(network, 4).state_dict() for network in built]
    assert torch.equal(torch.get_rng_state(), state)
    return weights


def test_students_of_one_seed_start_alike_whatever_was_drawn_between() -> None:
    """A student with a teacher's network in its run is compared with one without, and with one of a file of outputs."""
    (one,), (other,) = first_weights(draws=0), first_weights(draws=100)
    assert all(torch.equal(values, other[name]) for name, values in one.items())


def test_two_networks_of_one_run_start_differently() -> None:
    one, other = first_weights(draws=0, networks=2)
    factors = [name for name in one if name.endswith((".first", ".middle", ".last"))]
    assert factors
    assert not any(torch.equal(one[name], other[name]) for name in factors)


@pytest.mark.parametrize(
    ("make", "factor", "message"),
    [
        (lambda: ModuleNetwork(4, 3, 8, "plain_module.PlainNet"), 4, r"has a BatchNorm2d \('body.+'\); set it to 0"),
        (lambda: LightNN(4, 3, 8), -1, "reparameterize is -1"),
        (
            lambda: ModuleNetwork(4, 3, 8, "test_reparameterize.ReadsWeights"),
            2,
            "reads the weights of its layers itself",
        ),
    ],
)
def test_a_network_that_cannot_be_reparameterized_is_refused(
    make: Callable[[], Network], factor: int, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        reparameterize_network(make(), factor)


class ReadsWeights(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(3, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        return functional.linear(images.mean((2, 3)), self.head.weight, self.head.bias)


def test_a_last_batch_of_one_image_is_refused_before_training() -> None:
    task: Task = classifier(False)
    with pytest.raises(UserError, match="batch normalization cannot train"):
        quick_trainer().fit(task, datamodule=TinyDataModule(count=33, val_size=0))
