"""Every loss between transformers and convolutions, whose maps differ in their order."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from loss_examples import LOSSES, batch
from torch import Tensor
from torch.nn import functional

from kd_lightning.losses import CrossEntropy, HardTargets, LayerLoss, Loss
from kd_lightning.networks import LightNN, ModuleNetwork, Network, ViT
from kd_lightning.tasks import Classifier, Distill
from kd_lightning.teacher import Teacher

SIZES: dict[str, Any] = {"num_classes": 5, "in_channels": 3, "image_size": 16}
TIMM: dict[str, Any] = {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 1, "reg_tokens": 4}
OURS = partial(ViT, **SIZES, depth=2, width=64)

NETWORKS: dict[str, Callable[[], Network]] = {
    "light": partial(LightNN, **SIZES),
    "vit": partial(OURS, class_token=False),
    "deit": partial(OURS, distillation_token=True),
    "timm": partial(ModuleNetwork, **SIZES, module="timm.models.vision_transformer.VisionTransformer", arguments=TIMM),
}
LAYERS = {
    "light": {"body": "features", "deep": "features.3", "flat": "classifier.0"},
    "timm": {"body": "blocks.0", "deep": "blocks.1", "flat": "fc_norm"},
    "vit": {"body": "blocks.0", "deep": "blocks.1", "flat": "pool"},
    "deit": {"body": "blocks.0", "deep": "norm", "flat": "pool"},
}
BATCH = batch()._replace(images=torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)))


def distill(student: str, teacher: str, losses: dict[str, Loss]) -> Distill:
    torch.manual_seed(1)
    for loss in losses.values():
        if isinstance(loss, LayerLoss):
            loss.student_layers = tuple(LAYERS[student][layer] for layer in loss.student_layers)
            loss.teacher_layers = tuple(LAYERS[teacher][layer] for layer in loss.teacher_layers)
    return Distill(NETWORKS[student](), Teacher(NETWORKS[teacher]()), losses)


@pytest.mark.parametrize(("student", "teacher"), [("light", "timm"), ("timm", "light"), ("vit", "deit")])
@pytest.mark.parametrize("name", [name for name in LOSSES if name != "class_attention"])  # for CNNs that end in a mean
def test_gradients_of_every_loss_reach_the_student(name: str, student: str, teacher: str) -> None:
    task = distill(student, teacher, {"it": LOSSES[name]()})
    task.start_losses(8, torch.arange(8) % 5)
    first = next(values for values in task.network.parameters() if values.ndim == 4)  # the patches, or a convolution
    [gradient] = torch.autograd.grad(task.step(BATCH).loss, first)
    assert gradient.isfinite().all()
    assert gradient.any()


def test_a_distillation_token_learns_from_the_teacher_and_the_class_token_from_the_labels() -> None:
    task = distill("deit", "light", {"labels": CrossEntropy(), "hard": HardTargets(weight=0.5)})
    network = task.network
    heads: dict[str, Tensor] = {}
    for name in ("head", "head_dist"):
        network.get_submodule(name).register_forward_hook(lambda _, __, value, name=name: heads.update({name: value}))
    step = task.step(BATCH)
    chosen = task.teacher(BATCH.images).argmax(1)
    assert step.losses["labels"] == functional.cross_entropy(heads["head"], BATCH.labels)
    assert step.losses["hard"] == functional.cross_entropy(heads["head_dist"], chosen)
    assert torch.equal(step.logits, heads["head"])
    network.eval()
    assert torch.equal(network(BATCH.images), (heads["head"] + heads["head_dist"]) / 2)


def test_without_a_loss_on_the_teachers_logits_labels_train_both_heads() -> None:
    for task in (
        Classifier(NETWORKS["deit"]()),
        distill("deit", "light", {"labels": CrossEntropy(), "maps": LOSSES["feature_regression"]()}),
    ):
        task.step(BATCH).loss.backward()
        gradients = {name: values.grad for name, values in task.network.named_parameters()}
        for name in ("head.weight", "head_dist.weight"):
            gradient = gradients[name]
            assert gradient is not None
            assert gradient.any()
