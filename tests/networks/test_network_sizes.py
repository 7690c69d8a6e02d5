"""Parameters and names of the networks for CIFAR: those of the papers, counted here from the lists of their layers."""

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kd_lightning.networks import VGG, MobileNetV2, Network, ResNet, ResNet9, ShuffleNetV1, ShuffleNetV2, WideResNet
from kd_lightning.networks.weights import load_weights


def count(network: nn.Module) -> int:
    return sum(values.numel() for values in network.parameters())


def plain(channels: Iterable[int], bias: bool = False) -> int:
    """Count the weights of 3x3 convolutions in a row, each with batch normalization."""
    return sum(9 * before * after + (3 if bias else 2) * after for before, after in pairwise(channels))


def resnet(depth: int, width: int) -> int:
    blocks, stem = (depth - 2) // 6, 16 * min(width, 2)
    stages = [size * width for size in (16, 32, 64)]
    shortcuts = sum((before + 2) * after for before, after in pairwise([stem, *stages]) if before != after)
    return shortcuts + plain([3, stem, *(size for size in stages for _ in range(2 * blocks))])


def wide_resnet(depth: int, width: int) -> int:
    blocks, stages = (depth - 4) // 6, [16, 16 * width, 32 * width, 64 * width]
    shortcuts = sum(before * after for before, after in pairwise(stages) if before != after)
    return shortcuts + plain([3, 16, *(size for size in stages[1:] for _ in range(2 * blocks))])


def vgg(*channels: int) -> int:
    return plain([3, *channels], bias=True)


def resnet9(width: int) -> int:
    return plain([3, *(width * times for times in (1, 2, 2, 2, 4, 8, 8, 8))])


def pointwise(before: int, after: int, groups: int = 1) -> int:
    return before // groups * after + 2 * after


def depthwise(channels: int) -> int:
    return 9 * channels + 2 * channels


def mobilenet(width: float) -> int:
    plan = [(32, 16, 1, 1), (16, 24, 6, 2), (24, 32, 6, 3), (32, 64, 6, 4), (64, 96, 6, 3), (96, 160, 6, 3)]
    total, last = 0, int(1280 * max(width, 1))
    for before, after, expansion, blocks in [*plan, (160, 320, 6, 1)]:
        channels = [int(before * width), *[int(after * width)] * blocks]
        for inner, outer in pairwise(channels):
            wide = expansion * inner
            total += pointwise(inner, wide) + depthwise(wide) + pointwise(wide, outer)
    return plain([3, int(32 * width)]) + total + pointwise(int(320 * width), last)


def shufflenet_v1() -> int:
    total, before = pointwise(3, 24), 24
    for after, units in ((240, 4), (480, 8), (960, 4)):
        for added, inputs in [(after - before, before), *[(after, after)] * (units - 1)]:
            inside = added // 4
            first = pointwise(inputs, inside, 1 if inputs == 24 else 3)
            total += first + depthwise(inside) + pointwise(inside, added, 3)
        before = after
    return total


def shufflenet_v2(*channels: int) -> int:
    total, before = pointwise(3, 24), 24
    for after, units in zip(channels, (4, 8, 4), strict=False):
        half = after // 2
        changed = depthwise(half) + pointwise(half, half)
        total += depthwise(before) + pointwise(before, half) + pointwise(before, half) + changed
        total += (units - 1) * (pointwise(half, half) + changed)
        before = after
    return total + pointwise(*channels[-2:])


SIZES: list[tuple[type[Network], dict[str, Any], int, int, int]] = [
    (ResNet9, {}, resnet9(64), 512, 6_619_300),
    (ResNet9, {"width": 32}, resnet9(32), 256, 1_669_252),
    (ResNet, {"depth": 8}, resnet(8, 1), 64, 83_892),
    (ResNet, {"depth": 14}, resnet(14, 1), 64, 181_108),
    (ResNet, {"depth": 20}, resnet(20, 1), 64, 278_324),
    (ResNet, {"depth": 32}, resnet(32, 1), 64, 472_756),
    (ResNet, {"depth": 44}, resnet(44, 1), 64, 667_188),
    (ResNet, {"depth": 56}, resnet(56, 1), 64, 861_620),
    (ResNet, {"depth": 110}, resnet(110, 1), 64, 1_736_564),
    (ResNet, {"depth": 8, "width": 4}, resnet(8, 4), 256, 1_233_540),
    (ResNet, {"depth": 32, "width": 4}, resnet(32, 4), 256, 7_433_860),
    (WideResNet, {"width": 1}, wide_resnet(16, 1), 64, 180_916),
    (WideResNet, {}, wide_resnet(16, 2), 128, 703_284),
    (WideResNet, {"depth": 40, "width": 1}, wide_resnet(40, 1), 64, 569_780),
    (WideResNet, {"depth": 40}, wide_resnet(40, 2), 128, 2_255_156),
    (WideResNet, {"depth": 28, "width": 10}, wide_resnet(28, 10), 640, 36_536_884),
    (VGG, {}, vgg(64, 128, 256, 512, 512), 512, 3_965_028),
    (VGG, {"depth": 13}, vgg(64, 64, 128, 128, 256, 256, 512, 512, 512, 512), 512, 9_462_180),
    (MobileNetV2, {}, mobilenet(0.5), 1280, 812_836),
    (MobileNetV2, {"width": 1.0}, mobilenet(1), 1280, 2_353_060),
    (ShuffleNetV1, {}, shufflenet_v1(), 960, 949_258),
    (ShuffleNetV2, {}, shufflenet_v2(116, 232, 464, 1024), 1024, 1_355_528),
    (ShuffleNetV2, {"width": 0.5}, shufflenet_v2(48, 96, 192, 1024), 1024, 443_716),
    (ShuffleNetV2, {"width": 2.0}, shufflenet_v2(224, 488, 976, 2048), 2048, 5_521_860),
]
"""A network, its options, the parameters below its last layer, its inputs, and all for CIFAR-100, as published."""


@pytest.mark.parametrize(("kind", "options", "body", "features", "published"), SIZES)
def test_networks_have_the_parameters_of_their_papers(
    kind: type[Network], options: dict[str, Any], body: int, features: int, published: int
) -> None:
    with torch.device("meta"):
        ten, hundred = kind(10, 3, 32, **options), kind(100, 3, 32, **options)
    assert count(hundred) == body + (features + 1) * 100 == published
    assert count(ten) == body + (features + 1) * 10


@pytest.mark.parametrize("kind", [ResNet9, ResNet, WideResNet, VGG, MobileNetV2, ShuffleNetV1, ShuffleNetV2])
def test_the_first_line_of_a_networks_help_has_its_parameters_for_cifar10(kind: type[Network]) -> None:
    with torch.device("meta"):
        network = kind(10, 3, 32)
    assert f"{count(network):,} parameters" in (kind.__doc__ or "").partition("\n")[0]


def test_a_resnet_has_as_many_parameters_more_than_hes_as_its_shortcuts_have() -> None:
    he, shortcuts = 269_722, (16 * 32 + 2 * 32) + (32 * 64 + 2 * 64)  # 0.27 M in table 6 of the paper
    assert count(ResNet(depth=20)) == he + shortcuts
    assert f"{shortcuts:,} fewer" in (ResNet.__doc__ or "")


RESNET8 = {"conv1", "bn1", "fc"} | {
    f"layer{stage}.0.{name}"
    for stage in (1, 2, 3)
    for name in ("conv1", "bn1", "conv2", "bn2", *(("downsample.0", "downsample.1") if stage > 1 else ()))
}
WIDE10 = {"conv1", "bn1", "fc", "block2.layer.0.convShortcut", "block3.layer.0.convShortcut"} | {
    f"block{stage}.layer.0.{name}" for stage in (1, 2, 3) for name in ("bn1", "conv1", "bn2", "conv2")
}
VGG8 = {"classifier"} | {f"block{block}.{place}" for block in range(5) for place in (0, 1)}


@pytest.mark.parametrize(
    ("network", "names"),
    [(ResNet(depth=8), RESNET8), (WideResNet(depth=10, width=1), WIDE10), (VGG(num_classes=2), VGG8)],
)
def test_files_of_repdistiller_are_loaded(network: Network, names: set[str], tmp_path: Path) -> None:
    state = {name: torch.full_like(values, 2) for name, values in network.state_dict().items()}
    assert {name.rpartition(".")[0] for name in state} == names
    content = {"epoch": 240, "model": state, "best_acc": torch.tensor(72.5)}
    torch.save(content, tmp_path / "ckpt_epoch_240.pth", _use_new_zipfile_serialization=False)
    load_weights(network, tmp_path / "ckpt_epoch_240.pth")
    assert all((values == 2).all() for values in network.state_dict().values())
