"""The trial of a network before training: its output, and its layers' outputs in training."""

import random
from collections import OrderedDict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from task_example import quick_trainer
from tiny import TinyDataModule, TinyNetwork
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from kd_lightning.errors import UserError
from kd_lightning.losses import PKT, CrossEntropy, Loss, SoftTargets
from kd_lightning.networks import Network, TorchvisionNetwork
from kd_lightning.networks.layers import FeatureExtractor
from kd_lightning.tasks import Classifier, Distill
from kd_lightning.teacher import Teacher

Change = Callable[[nn.Module, Tensor], Any]


class Changed(Network):
    """Applies a function to its logits; its last layer has ``outputs``."""

    def __init__(self, change: Change = lambda network, logits: logits, outputs: int = 4) -> None:
        super().__init__(4, 3, 8)
        self.body = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU())
        self.head = nn.Linear(6, outputs)
        self.change = change

    def forward(self, images: Tensor) -> Tensor:
        return self.change(self, self.head(self.body(images).mean((2, 3))))  # type: ignore[no-any-return]


def in_training(change: Change) -> Change:
    return lambda network, logits: change(network, logits) if network.training else logits


OTHERS: dict[str, tuple[Change, str]] = {
    "auxiliary logits": (in_training(lambda _, z: (z, z)), "gives a tuple for 2 images in training mode"),
    "a map": (lambda _, z: z[:, :, None, None], r"gives values of shape \(1, 4, 1, 1\) .*; `.flatten\(1\)` makes"),
    "squeezed": (lambda _, z: z.squeeze(), r"gives values of shape \(4,\) in float32 for 1 image in evaluation mode"),
    "classes": (
        lambda _, z: z.argmax(1, keepdim=True),
        "gives values .* in int64 .*, but must give logits .* in float32",
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_an_output_that_is_not_logits_is_refused(name: str) -> None:
    change, message = OTHERS[name]
    with pytest.raises(UserError, match=f"^Changed {message}.*\\.$"):
        Classifier(Changed(change))


def test_a_teachers_output_is_tried_as_it_is_used() -> None:
    Distill(TinyNetwork(), Teacher(Changed(OTHERS["auxiliary logits"][0])), {"kd": SoftTargets()})  # it never trains
    with pytest.raises(UserError, match="Changed gives values of shape"):
        Distill(TinyNetwork(), Teacher(Changed(OTHERS["a map"][0])), {"kd": SoftTargets()})


def test_other_classes_than_the_datas_are_refused_with_the_number_to_build() -> None:
    with pytest.raises(UserError, match=r"Changed gives 1000 values per image for 4 classes; .* 4 outputs"):
        Classifier(Changed(outputs=1000))
    with pytest.raises(UserError, match="4 outputs"):
        Distill(TinyNetwork(), Teacher(Changed(outputs=1000)), {"labels": CrossEntropy()})


def test_weights_that_cannot_be_trained_are_refused() -> None:
    with pytest.raises(UserError, match="Changed has no parameters to train"):
        quick_trainer().fit(Classifier(Changed().requires_grad_(False)), datamodule=TinyDataModule())


@pytest.mark.parametrize("given", [lambda z: OrderedDict(loss=None, logits=z), lambda z: SimpleNamespace(logits=z)])
def test_losses_files_and_predictions_use_the_logits_of_a_structured_output(given: Callable[[Tensor], Any]) -> None:
    torch.manual_seed(0)
    network = Changed(lambda _, logits: given(logits))
    plain = Changed()
    plain.load_state_dict(network.state_dict())
    images = torch.randn(5, 3, 8, 8)
    assert torch.equal(network.eval()(images), plain.eval()(images))
    exported = torch.export.export(network, (images,)).module()
    assert torch.allclose(exported(images), plain(images), atol=1e-6)
    losses: dict[str, Loss] = {"labels": CrossEntropy(), "kd": SoftTargets(), "body": PKT("body", "body")}
    task = Distill(network, Teacher(Changed(lambda _, logits: given(logits))), losses)
    trainer = quick_trainer()
    trainer.fit(task, datamodule=TinyDataModule())
    assert trainer.callback_metrics["train/kd"] > 0


def test_a_trial_leaves_statistics_modes_random_numbers_and_replaced_buffers_as_they_were() -> None:
    def disturb(network: Any, logits: Tensor) -> Tensor:
        if network.training:
            network.seen = network.seen + len(logits)  # another tensor
        noise = random.random() + np.random.rand() + float(torch.rand(()))
        return logits + noise

    network = Changed(disturb)
    network.register_buffer("seen", torch.zeros(()))
    network.body.eval()
    modes, seen = [module.training for module in network.modules()], network.seen
    before = {name: values.clone() for name, values in network.state_dict().items()}
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # type: ignore[index]
    network.to_channels_last()
    FeatureExtractor(network, ["body"], network, network.image_shape)
    assert random.getstate() == states[0]
    assert (np.random.get_state()[1] == states[1]).all()  # type: ignore[index]
    assert torch.equal(torch.get_rng_state(), states[2])
    assert [module.training for module in network.modules()] == modes
    assert network.seen is seen
    assert all(torch.equal(values, before[name]) for name, values in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())


class Layered(Network):
    """Calls its layers by a function."""

    def __init__(self, run: Callable[[Any, Tensor], Tensor], inplace: bool = False) -> None:
        super().__init__(4, 3, 8)
        self.stem, self.body = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.pool, self.dropout = nn.AdaptiveAvgPool2d(1), nn.Dropout(0.5, inplace=inplace)
        self.head = nn.Linear(6, 4)
        self.run = run

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.dropout(self.pool(self.run(self, self.stem(images))).flatten(1)))  # type: ignore[no-any-return]


def extracted(network: Network, *layers: str) -> FeatureExtractor:
    return FeatureExtractor(network, layers, network.layer_root(), network.image_shape)


def test_dropout_in_place_after_an_extracted_layer_leaves_no_zeros_in_its_map() -> None:
    torch.manual_seed(0)
    network, images = Layered(lambda net, x: net.body(x), inplace=True), torch.randn(16, 3, 8, 8)
    assert (extracted(network, "pool")(images).maps["pool"] != 0).all()
    efficient = TorchvisionNetwork(4, 3, 32, "efficientnet_b0").train()
    maps = extracted(efficient, "avgpool")(torch.randn(4, 3, 32, 32)).maps["avgpool"]
    assert (maps != 0).all()
    maps.sum().backward()
    assert efficient.body.features[0][0].weight.grad is not None  # type: ignore[union-attr, index]


RUNS: dict[str, tuple[Callable[[Any, Tensor], Tensor], str]] = {
    "twice in training": (
        lambda net, x: net.body(net.body(x)) if net.training else net.body(x),
        "runs 2 times in a training pass, but must run once",
    ),
    "a reentrant checkpoint": (
        lambda net, x: checkpoint(net.body, x, use_reentrant=True),
        "runs without gradients .*; set use_reentrant=False",
    ),
}


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_a_layer_that_behaves_differently_in_training_is_refused_before_it_starts(run: str) -> None:
    function, message = RUNS[run]
    losses: dict[str, Loss] = {"labels": CrossEntropy(), "own": PKT("body", "features")}
    with pytest.raises(UserError, match=f"^the loss 'own': the layer 'body' of Layered {message}"):
        Distill(Layered(function), Teacher(TinyNetwork()), losses)


def test_a_checkpoint_that_is_not_reentrant_gives_the_gradients_of_none() -> None:
    gradients = []
    for run in (lambda net, x: net.body(x), lambda net, x: checkpoint(net.body, x, use_reentrant=False)):
        torch.manual_seed(0)
        network = Layered(run)
        outputs = extracted(network, "body")(torch.randn(4, 3, 8, 8))
        outputs.maps["body"].square().sum().backward()
        assert network.stem.weight.grad is not None
        gradients.append(network.stem.weight.grad)
    assert gradients[0].any()
    assert gradients[0].equal(gradients[1])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda net, x: x, "does not run in a training pass"),
        (lambda net, x: net.body(x).mul_(2), "is overwritten by a later layer in some passes and not in others"),
    ],
    ids=["skipped", "overwritten"],
)
def test_a_layer_that_behaves_differently_in_a_later_step_is_refused_then(
    other: Callable[[Any, Tensor], Tensor], message: str
) -> None:
    network = Layered(lambda net, x: net.body(x))
    task = Distill(network, Teacher(TinyNetwork()), {"own": PKT("body", "features")})
    network.run = other
    with pytest.raises(UserError, match=f"^the layer 'body' of Layered {message}.*; name the layer around it.$"):
        quick_trainer().fit(task, datamodule=TinyDataModule())


def test_a_layer_without_a_row_per_image_is_refused() -> None:
    network = Layered(
        lambda net, x: net.body(x.flatten(0, 1)[:, None].expand(-1, 6, -1, -1)).unflatten(0, (-1, 6))[:, 0]
    )
    with pytest.raises(UserError, match=r"gives a tensor of shape \(6, 6, 8, 8\) for 1 image"):
        extracted(network, "body")


def test_a_layer_that_gives_the_logits_is_found_in_whatever_shape() -> None:
    network = TorchvisionNetwork(4, 3, 64, "squeezenet1_1").eval()
    outputs = extracted(network, "classifier", "classifier.1")(torch.randn(3, 3, 64, 64))
    assert outputs.maps["classifier"].shape == (3, 4, 1, 1)
    assert outputs.maps["classifier"].data_ptr() == outputs.logits.data_ptr()
    assert outputs.maps["classifier.1"].shape[2:] == (3, 3)
