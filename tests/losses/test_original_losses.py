"""Losses against what their authors' code computes, values and gradients, where a loss can easily differ from it."""

from collections.abc import Callable, Sequence
from math import erf, exp, pi, sqrt
from typing import Any

import pytest
import torch
from loss_examples import batch, compared
from torch import Tensor, nn
from torch.nn import functional

from kd_lightning.errors import UserError
from kd_lightning.losses import OFD, AttentionTransfer, FeatureRegression, ReviewKD
from kd_lightning.losses.projectors import regressor
from kd_lightning.networks import Network, ResNet, ShuffleNetV1, WideResNet
from kd_lightning.networks.layers import LOGITS, FeatureExtractor, Outputs

Stages = Callable[[Any, Tensor], tuple[list[Tensor], list[Tensor]]]


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def extractor(network: nn.Module, layers: Sequence[str]) -> FeatureExtractor:
    assert isinstance(network, Network)
    return FeatureExtractor(network, layers, network, network.image_shape)


def add_bias(network: Network) -> Network:
    """A network whose normalization is not the one that it begins with."""
    for number, module in enumerate(network.modules()):
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.bias, 0, 0.2)
            module.running_mean = 0.1 * drawn(module.num_features, seed=number).float()
    return network.eval()


def residual_stages(network: Any, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Each stage's maps before its last ReLU and after it, block by block."""
    values, before, after = network.bn1(network.conv1(images)).relu(), [], []
    for stage in (network.layer1, network.layer2, network.layer3):
        for block in stage:
            inside = block.bn1(block.conv1(values)).relu()
            raw = block.bn2(block.conv2(inside)) + block.downsample(values)
            values = raw.relu()
        before.append(raw)
        after.append(values)
    return before, after


def stage_outputs(network: Any, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    after: list[Tensor] = []
    stages = network.layer1, network.layer2, network.layer3
    hooks = [stage.register_forward_hook(lambda _, __, value: after.append(value)) for stage in stages]
    network(images)
    for hook in hooks:
        hook.remove()
    return [], after


def wide_stages(network: Any, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """The sums of a stage, which come before the normalization of the next, and those after it."""
    sums, values = [], network.conv1(images)
    for stage in (network.block1, network.block2, network.block3):
        values = stage(values)
        sums.append(values)
    norms = network.block2.layer[0].bn1, network.block3.layer[0].bn1, network.bn1
    return [norm(values) for norm, values in zip(norms, sums, strict=True)], sums


RESIDUAL = ["layer1", "layer2", "layer3", "pool"]
REVIEWS: dict[str, tuple[Callable[[], Network], Stages, list[str], Callable[[], Network], Stages, list[str]]] = {
    "resnet": (
        lambda: ResNet(depth=8, image_size=16, width=2),
        residual_stages,
        RESIDUAL,
        lambda: ResNet(depth=14, image_size=16),
        residual_stages,
        ["layer1.1.preact", "layer2.1.preact", "layer3.1.preact", "pool"],
    ),
    "shufflenet of wrn": (
        lambda: ShuffleNetV1(image_size=16),
        stage_outputs,
        RESIDUAL,
        lambda: WideResNet(depth=10, image_size=16),
        wide_stages,
        ["block2.layer.0.bn1", "block3.layer.0.bn1", "bn1", "pool"],
    ),
}


def review_of_the_authors(loss: Any, students: list[Tensor], teachers: list[Tensor]) -> Tensor:
    """ReviewKD as in its repository: from the pooled vector to the first stage."""
    total, handed = torch.zeros((), dtype=torch.float64), None
    for fusion, own, other in reversed(list(zip(loss.fusions, students, teachers, strict=True))):
        x = normalized(functional.conv2d(own, fusion.enter[0].weight), fusion.enter[1])
        if handed is not None:
            y = functional.interpolate(handed, x.shape[-2:], mode="nearest")
            z = functional.conv2d(torch.cat([x, y], 1), fusion.attention.weight, fusion.attention.bias).sigmoid()
            x = x * z[:, :1] + y * z[:, 1:]
        handed = functional.interpolate(x, other.shape[-2:], mode="nearest")
        made = normalized(functional.conv2d(handed, fusion.leave[0].weight, padding=1), fusion.leave[1])
        sizes = [other.shape[-1], *(size for size in (4, 2, 1) if size < other.shape[-1])]
        levels = [functional.adaptive_avg_pool2d(made - other, size).square().mean() for size in sizes]
        weights = [0.5**level for level in range(len(levels))]
        total = total + sum(w * level for w, level in zip(weights, levels, strict=True)) / sum(weights)
    return total


def normalized(values: Tensor, norm: Any) -> Tensor:
    mean, variance = values.mean((0, 2, 3), keepdim=True), values.var((0, 2, 3), correction=0, keepdim=True)
    weight, bias = (values[:, None, None] for values in (norm.weight, norm.bias))
    result: Tensor = (values - mean) / (variance + 1e-5).sqrt() * weight + bias
    return result


def gradients(total: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    found = torch.autograd.grad(total, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


@pytest.mark.parametrize("pair", REVIEWS)
def test_review_of_stages_before_their_relu_and_of_the_pooled_vector_is_the_authors(pair: str) -> None:
    make, stages, names, make_teacher, teacher_stages, teacher_names = REVIEWS[pair]
    torch.manual_seed(0)
    student, teacher, images = add_bias(make()), add_bias(make_teacher()), drawn(2, 3, 16, 16)
    own, other = extractor(student, names), extractor(teacher, teacher_names)
    student.double()
    teacher.double()
    loss: Any = ReviewKD(names, teacher_names)
    loss.build(own.shapes, other.shapes)
    loss.double()
    with torch.no_grad():
        target, raw = loss.teacher_target(other(images)), teacher_stages(teacher, images)[0]
        pooled = raw[-1].relu().mean((2, 3), keepdim=True)
    mine = stages(student, images)[1]
    expected = review_of_the_authors(loss, [*mine, mine[-1].mean((2, 3), keepdim=True)], [*raw, pooled])
    result = loss(own(images), target, batch(2))
    assert result.item() == pytest.approx(expected.item(), rel=1e-9)
    trained = [*student.parameters(), *loss.parameters()]
    for one, two in zip(gradients(result, trained), gradients(expected, trained), strict=True):
        assert torch.allclose(one, two, rtol=1e-6, atol=1e-9)


def test_preact_of_a_stage_is_its_map_before_the_relu_and_has_no_weights() -> None:
    network: Any = ResNet(depth=14, image_size=16)
    names = [f"{name}.{len(network.get_submodule(name)) - 1}.preact" for name in RESIDUAL[:3]]
    images = drawn(2, 3, 16, 16).float()
    network.eval()
    with torch.no_grad():
        seen = extractor(network, names)(images)
        before, after = residual_stages(network, images)
    assert all(torch.equal(seen.maps[name], value) for name, value in zip(names, before, strict=True))
    assert all((value < 0).any() and (other >= 0).all() for value, other in zip(before, after, strict=True))
    assert not any(".preact" in key for key in network.state_dict())


def test_fusions_begin_as_the_authors_do() -> None:
    loss: Any = ReviewKD(["body", "pool"])
    shapes = {"body": (64, 8, 8), "pool": (96,), LOGITS: (5,)}
    torch.manual_seed(0)
    loss.build(shapes, shapes)
    for fusion in loss.fusions:
        for convolution in (fusion.enter[0], fusion.leave[0]):
            bound = (3 / convolution.weight[0].numel()) ** 0.5  # uniform, with a gain of one
            assert convolution.weight.abs().max().item() == pytest.approx(bound, rel=0.02)


@pytest.mark.parametrize(("student_side", "teacher_side"), [(8, 4), (4, 8), (6, 6)])
def test_attention_of_two_sizes_averages_features_before_it_squares_them(student_side: int, teacher_side: int) -> None:
    student, teacher = drawn(3, 5, student_side, student_side).requires_grad_(), drawn(3, 7, teacher_side, teacher_side)
    side = min(student_side, teacher_side)
    maps = []
    for values in (student, teacher):
        means = values.unflatten(3, (side, -1)).unflatten(2, (side, -1)).mean((3, 5))  # (B, C, side, side)
        strength = means.square().mean(1).flatten(1)
        maps.append(strength / strength.square().sum(1, keepdim=True).sqrt())
    expected = (maps[0] - maps[1]).square().mean()
    result, gradient = compared(AttentionTransfer(["body"]), student.detach(), teacher)
    assert result == pytest.approx(expected.item(), rel=1e-9)
    assert torch.allclose(gradient, torch.autograd.grad(expected, student)[0])


CONVOLUTIONS = {
    "the same size": ((8, 8), (8, 8), {"kernel_size": (1, 1), "stride": (1, 1), "padding": (0, 0)}),
    "twice as large": ((8, 8), (4, 4), {"kernel_size": (3, 3), "stride": (2, 2), "padding": (1, 1)}),
    "half as large": ((4, 4), (8, 8), {"kernel_size": (4, 4), "stride": (2, 2), "padding": (1, 1)}),
    "larger otherwise": ((8, 8), (5, 5), {"kernel_size": (4, 4), "stride": (1, 1), "padding": (0, 0)}),
    "larger on one side": ((8, 6), (8, 5), {"kernel_size": (1, 2), "stride": (1, 1), "padding": (0, 0)}),
}


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_conv_reg_is_a_convolution_that_fits_the_sizes_with_normalization_and_relu(case: str) -> None:
    own, other, settings = CONVOLUTIONS[case]
    student, teacher = drawn(2, 3, *own).requires_grad_(), drawn(2, 4, *other, seed=1)
    torch.manual_seed(0)
    loss: Any = FeatureRegression("body", projector="ConvReg")
    shapes = ({"body": tuple(values.shape[1:]), LOGITS: (5,)} for values in (student, teacher))
    loss.build(*shapes)
    loss.double()
    [result] = [loss.compare(*pair) for pair in loss.pairs(Outputs(student, {"body": student}), {"body": teacher})]
    convolution = loss.projector[0]
    assert settings == {name: getattr(convolution, name) for name in settings}
    run = functional.conv_transpose2d if case == "half as large" else functional.conv2d
    made = run(student, convolution.weight, convolution.bias, settings["stride"], settings["padding"])
    expected = (normalized(made, loss.projector[1]).relu() - teacher).square().mean()
    assert result.item() == pytest.approx(expected.item(), rel=1e-9)
    for one, two in zip(
        *(gradients(total, [student, convolution.weight]) for total in (result, expected)), strict=True
    ):
        assert torch.allclose(one, two, rtol=1e-6, atol=1e-9)


def test_conv_reg_of_a_map_that_is_too_small_is_refused() -> None:
    with pytest.raises(UserError, match=r"ConvReg needs a student's map .* not 4x4 beside 7x7"):
        regressor((3, 4, 4), (6, 7, 7))


def test_margins_of_ofd_are_those_that_its_authors_estimate_by_the_batch_norm_before_the_relu() -> None:
    norm = nn.BatchNorm2d(4).double()
    nn.init.constant_(norm.weight, 0.7)
    norm.bias.data = torch.tensor([-0.5, 0.0, 0.3, 1.0]).double()
    maps = norm(drawn(200, 4, 16, 16)).detach()
    below = [0.5 * (1 + erf(-m / 0.7 / sqrt(2))) for m in norm.bias.tolist()]
    estimated = [
        m - 0.7 * exp(-((m / 0.7) ** 2) / 2) / sqrt(2 * pi) / share
        for m, share in zip(norm.bias.tolist(), below, strict=True)
    ]
    loss: Any = OFD("body")
    loss.build(*2 * ({"body": (4, 16, 16), LOGITS: (5,)},))
    loss.double()(Outputs(maps, {"body": maps}), {"body": maps}, batch())
    assert loss.margins0.tolist() == pytest.approx(estimated, rel=0.03)
