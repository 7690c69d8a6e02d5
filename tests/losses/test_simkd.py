"""Losses that read a last layer: SimKD, whose student keeps the teacher's, and CATKD, which compares what it sees."""

from pathlib import Path
from typing import Any

import pytest
import torch
from fast_example import assert_same, train
from loss_examples import batch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD
from weights_example import info_of

from kd_lightning.errors import UserError
from kd_lightning.losses import CATKD, Loss, SimKD
from kd_lightning.networks import LightNN, Network, ResNet, SimKDStudent
from kd_lightning.networks.layers import LOGITS, FeatureExtractor, Shapes
from kd_lightning.networks.reparameterize import reparameterize_network
from kd_lightning.networks.weights import load_model, save_weights
from kd_lightning.tasks import Distill
from kd_lightning.teacher import Teacher


def teacher() -> ResNet:
    torch.manual_seed(1)
    return ResNet(num_classes=4, image_size=8, depth=8)


def student(**options: Any) -> SimKDStudent:
    torch.manual_seed(2)
    return SimKDStudent(num_classes=4, image_size=8, **{"student": "ResNet(depth=8)", **options})


def task(loss: Loss, network: Network, fast: bool = False, cache_teacher: bool = False) -> Distill:
    return Distill(
        network,
        Teacher(teacher()),
        {"it": loss},
        fast=fast,
        cache_teacher=cache_teacher,
        optimizer=lambda parameters: SGD(parameters, lr=2**-4, momentum=0.5, weight_decay=0.1, fused=True),
    )


def simkd(fast: bool, cache_teacher: bool = False) -> Distill:
    return task(SimKD("layer3.projector"), student(), fast, cache_teacher)


def test_a_simkd_student_learns_without_labels_keeps_the_teachers_last_layer_and_is_saved_whole(
    tmp_path: Path,
) -> None:
    trainer, trained = train(simkd, False, {"count": 62}, max_epochs=3)
    assert float(trainer.callback_metrics["train/it"]) < 1
    network: Any = trained.network.eval()
    other = teacher().fc
    assert torch.equal(network.student.fc.weight, other.weight)
    assert torch.equal(network.student.fc.bias, other.bias)
    images = torch.randn(4, 3, 8, 8)
    with torch.no_grad():
        seen = FeatureExtractor(network, ["layer3.projector"], network.layer_root(), network.image_shape)(images)
        expected = other(seen.maps["layer3.projector"].mean((2, 3)))
        assert torch.allclose(network(images), expected, atol=1e-6)
    save_weights(tmp_path / "weights.pth", network, info_of(network))
    assert torch.equal(load_model(tmp_path / "weights.pth")[0].to_channels_last()(images), network(images))


def test_a_simkd_student_is_the_same_on_the_fast_path_with_a_cached_teacher() -> None:
    live = train(simkd, False, {"count": 62})
    cached = train(lambda fast: simkd(fast, cache_teacher=True), True, {"count": 62})
    assert_same(live, cached, exact=False)


def test_a_teacher_with_its_classes_in_another_order_gives_its_last_layer_in_the_datas() -> None:
    network, last, order = student(), nn.Linear(64, 4), torch.tensor([2, 0, 3, 1])
    loss = SimKD("layer3.projector")
    given = teacher()
    given.fc = last
    loss.attach(network, given, order)
    values = torch.randn(5, 64)
    taken: Any = network.student.fc
    assert torch.equal(taken(values), last(values)[:, order])
    assert not any(parameter.requires_grad for parameter in taken.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": "layer2"}, "does not take a map of one place"),
        ({"layer": "pool"}, "needs a layer that gives maps"),
        ({"layer": "layer4"}, "ResNet has no layer 'layer4'"),
        ({"student": "WideResNet(depth=10)", "layer": "block3", "channels": 128}, "more than pooling is between them"),
        ({"student": "os.system('x')"}, "must be one of ResNet, "),
        ({"student": "ModuleNetwork(module='os.path')"}, "must be one of ResNet, "),
        ({"student": "ResNet(depth=__import__)"}, "with options as in 'ResNet"),
        ({"student": "ResNet(dept=8)"}, "ResNet does not take these options"),
    ],
)
def test_a_simkd_student_that_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        student(**options)


def test_simkd_refuses_another_network_and_a_teacher_of_another_size() -> None:
    with pytest.raises(UserError, match=r"the loss 'it': SimKD trains a SimKDStudent, .* not ResNet"):
        train(lambda fast: task(SimKD("layer3", "layer3"), teacher(), fast), False)
    with pytest.raises(UserError, match=r"teacher's 64 channels, but 'layer3.projector' gives 32; .*channels to 64"):
        task(SimKD("layer3.projector"), student(channels=32))
    with pytest.raises(UserError, match=r"last layer takes 32 channels, but --model.network.channels is 64; set it"):
        student().take(nn.Linear(32, 4), None)
    with pytest.raises(UserError, match="SimKDStudent has a BatchNorm2d"):
        reparameterize_network(student(), 4)


def class_maps(network: Any, maps: Tensor) -> Tensor:
    """Each class's evidence at each position of 2x2, of length one."""
    weighted = torch.einsum("kc,bchw->bkhw", network.fc.weight, maps)
    pooled = functional.avg_pool2d(weighted, maps.shape[-1] // 2)
    return pooled / pooled.square().sum((2, 3), keepdim=True).sqrt()


def test_class_attention_is_the_mean_squared_difference_of_class_maps_and_trains_the_last_layer() -> None:
    torch.manual_seed(0)
    own, other = (ResNet(5, image_size=16, depth=8, width=width).double() for width in (1, 2))
    loss, images = CATKD("layer3"), torch.randn(3, 3, 16, 16, dtype=torch.float64)
    extractors = [FeatureExtractor(net, ["layer3"], net, net.image_shape) for net in (own, other)]
    loss.build(*(extractor.shapes for extractor in extractors))
    order = torch.tensor([1, 2, 0, 4, 3])
    loss.attach(own, other, order)
    student_seen, teacher_seen = (extractor(images) for extractor in extractors)
    result = loss(student_seen, loss.teacher_target(teacher_seen), batch(3))
    expected = class_maps(own, student_seen.maps["layer3"]) - class_maps(other, teacher_seen.maps["layer3"])[:, order]
    assert result.item() == pytest.approx(expected.square().mean().item(), rel=1e-9)
    trained = [own.conv1.weight, own.fc.weight]
    pairs = (torch.autograd.grad(total, trained, retain_graph=True) for total in (result, expected.square().mean()))
    for one, two in zip(*pairs, strict=True):
        assert one.abs().max() > 0
        assert torch.allclose(one, two, rtol=1e-8, atol=1e-12)


def test_class_attention_reads_the_last_layer_of_a_re_parameterized_student() -> None:
    network = reparameterize_network(LightNN(num_classes=5, image_size=8), 4)
    loss = CATKD("classifier.1", resolution=1, normalize=False)
    shapes: Shapes = {"classifier.1": (256,), LOGITS: (5,)}
    loss.build(shapes, shapes)
    loss.attach(network, LightNN(num_classes=5, image_size=8), None)
    values = torch.randn(3, 256)
    layer: Any = network.get_submodule("classifier.3")
    expected = (layer(values) - layer.bias).square().mean()
    assert loss.compare(values[..., None, None], torch.zeros(3, 5, 1, 1)).item() == pytest.approx(expected.item())


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda: CATKD("layer2"), "of 64 channels, but 'layer2' gives 32; name the last map before pooling"),
        (lambda: CATKD("layer3", resolution=4), "resolution of CATKD is 4, but 'layer3' gives 64x2x2"),
        (lambda: CATKD("layer3", resolution=1), "resolution of CATKD is 1, but it must be 2 or more, or 1 with"),
    ],
)
def test_class_attention_of_other_maps_is_refused(loss: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        train(lambda fast: task(loss(), teacher(), fast), False)
