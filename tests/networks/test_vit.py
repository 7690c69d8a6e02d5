"""The small vision transformer, against timm's."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from onnxruntime import InferenceSession
from weights_example import info_of

from kd_lightning.errors import UserError
from kd_lightning.export.onnx import export_onnx
from kd_lightning.networks import ViT
from kd_lightning.networks.reparameterize import reparameterize_network
from kd_lightning.networks.weights import load_model, save_weights

SMALL: dict[str, Any] = {"num_classes": 4, "image_size": 8, "depth": 2, "width": 128}
IMAGES = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("class_token", [True, False])
def test_it_gives_the_logits_of_timms(class_token: bool) -> None:
    ours = ViT(**SMALL, class_token=class_token)
    pooled: dict[str, Any] = {
        "class_token": class_token,
        "global_pool": "token" if class_token else "avg",
        "fc_norm": False,
    }
    theirs = timm.models.vision_transformer.VisionTransformer(
        8, 4, num_classes=4, embed_dim=128, depth=2, num_heads=2, norm_layer=torch.nn.LayerNorm, **pooled
    )
    names = {"patch_embed.": "patch_embed.proj.", "prefix_tokens": "cls_token", "mlp.0": "mlp.fc1", "mlp.2": "mlp.fc2"}
    state = {}
    for name, values in ours.state_dict().items():
        for own, other in names.items():
            name = name.replace(own, other)
        state[name] = values
    theirs.load_state_dict(state)
    torch.testing.assert_close(ours(IMAGES), theirs(IMAGES))


def test_its_files_give_its_logits(tmp_path: Path) -> None:
    network = ViT(**SMALL, distillation_token=True).eval()
    info = replace(info_of(network), image_size=8)
    save_weights(tmp_path / "net.pth", network, info)
    assert torch.equal(load_model(tmp_path / "net.pth")[0](IMAGES), network(IMAGES))
    export_onnx(network, info, tmp_path / "net.onnx")
    [logits] = InferenceSession(tmp_path / "net.onnx").run(None, {"images": IMAGES.numpy()})
    np.testing.assert_allclose(logits, network(IMAGES).detach().numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch": 3}, r"--model\.network\.patch is 3; ViT needs a divisor of the images' 32 pixels"),
        ({"depth": 0}, r"--model\.network\.depth is 0; ViT needs 1 or more"),
        ({"width": 100}, r"--model\.network\.width is 100; ViT needs a multiple of 64"),
        ({"class_token": False, "distillation_token": True}, "but class_token is false; ViT needs both"),
    ],
)
def test_options_that_it_cannot_have_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ViT(**options)


def test_it_has_no_form_for_structural_re_parameterization() -> None:
    with pytest.raises(UserError, match=r"--model\.reparameterize needs .*; set it to 0"):
        reparameterize_network(ViT(**SMALL), 4)
