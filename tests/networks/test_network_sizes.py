"""Parameters and names of the networks for CIFAR: those of the papers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from kd_lightning.networks import (
    VGG,
    MobileNetV2,
    Network,
    ResNet,
    ResNet9,
    ResNet50,
    ShuffleNetV1,
    ShuffleNetV2,
    ViT,
    WideResNet,
)
from kd_lightning.networks.weights import load_weights


def count(network: nn.Module) -> int:
    return sum(values.numel() for values in network.parameters())


SIZES: list[tuple[type[Network], dict[str, Any], int, int]] = [
    (ResNet9, {}, 512, 6_619_300),
    (ResNet9, {"width": 32}, 256, 1_669_252),
    (ResNet, {"depth": 8}, 64, 83_892),
    (ResNet, {"depth": 20}, 64, 278_324),
    (ResNet, {"depth": 56}, 64, 861_620),
    (ResNet, {"depth": 110}, 64, 1_736_564),
    (ResNet, {"depth": 8, "width": 4}, 256, 1_233_540),
    (ResNet, {"depth": 32, "width": 4}, 256, 7_433_860),
    (ResNet50, {}, 2048, 23_705_252),
    (WideResNet, {"width": 1}, 64, 180_916),
    (WideResNet, {}, 128, 703_284),
    (WideResNet, {"depth": 40}, 128, 2_255_156),
    (WideResNet, {"depth": 28, "width": 10}, 640, 36_536_884),
    (VGG, {}, 512, 3_965_028),
    (VGG, {"depth": 13}, 512, 9_462_180),
    (MobileNetV2, {}, 1280, 812_836),
    (MobileNetV2, {"width": 1.0}, 1280, 2_353_060),
    (ShuffleNetV1, {}, 960, 949_258),
    (ShuffleNetV2, {}, 1024, 1_355_528),
    (ShuffleNetV2, {"width": 0.5}, 1024, 443_716),
    (ShuffleNetV2, {"width": 2.0}, 2048, 5_521_860),
]
"""A network, its options, the inputs of its last layer, and its parameters for CIFAR-100, as published."""


@pytest.mark.parametrize(("kind", "options", "features", "published"), SIZES)
def test_networks_have_the_parameters_of_their_papers(
    kind: type[Network], options: dict[str, Any], features: int, published: int
) -> None:
    with torch.device("meta"):
        ten, hundred = kind(10, 3, 32, **options), kind(100, 3, 32, **options)
    assert count(hundred) == published
    assert count(ten) == published - 90 * (features + 1)


@pytest.mark.parametrize(
    "kind", [ResNet9, ResNet, ResNet50, WideResNet, VGG, MobileNetV2, ShuffleNetV1, ShuffleNetV2, ViT]
)
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
