"""Weights in the hub's format: read wherever a .pth is read, refused in one sentence where they are damaged."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny import TinyNetwork
from weights_example import info_of

from kd_lightning.cli import main
from kd_lightning.errors import UserError
from kd_lightning.networks import LightNN
from kd_lightning.networks.weights import load_model, load_weights, save_weights
from kd_lightning.prediction.torch_predictor import TorchPredictor

HEADER = b'{"__metadata__":{"format":"pt"}}'


class TiedNetwork(TinyNetwork):
    """A network that keeps one tensor under two names, in channels-last memory."""

    def __init__(self, num_classes: int = 4, in_channels: int = 3, image_size: int = 8, width: int = 4) -> None:
        super().__init__(num_classes, in_channels, image_size, width)
        self.again = self.head
        self.to_channels_last()


def test_a_file_brings_back_the_network_and_what_prediction_needs(tmp_path: Path) -> None:
    network = TiedNetwork(num_classes=5, width=6)
    save_weights(tmp_path / "net.safetensors", network, info_of(network))
    loaded, info = load_model(tmp_path / "net.safetensors")
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(loaded(images), network.eval()(images))
    assert info == info_of(network)
    predictor = TorchPredictor(tmp_path / "net.safetensors")
    assert predictor.probabilities(np.zeros((1, 8, 8, 3), np.uint8)).shape == (1, 5)


def test_a_file_of_the_hub_without_our_metadata_is_a_bare_state_dict(tmp_path: Path) -> None:
    network = LightNN(image_size=8)
    save_file(network.state_dict(), tmp_path / "model.safetensors", {"format": "pt"})
    other = LightNN(image_size=8)
    assert load_weights(other, tmp_path / "model.safetensors").class_names[0] == "airplane"
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(other.eval()(images), network.eval()(images))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "its header has 0 bytes"),
        (struct.pack("<Q", 2**40) + b"{}", "its header has 1,099,511,627,776 bytes, not 2 to 16,777,216"),
        (struct.pack("<Q", 100) + HEADER, "[Hh]eader"),
        (struct.pack("<Q", 4) + b"abcd", "[Hh]eader"),
        (struct.pack("<Q", 60) + json.dumps({"__metadata__": {"network": "{"}}).ljust(60).encode(), "Expecting"),
    ],
    ids=["empty", "endless header", "cut short", "no JSON", "metadata that are not JSON"],
)
def test_a_damaged_file_is_one_sentence(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "net.safetensors"
    path.write_bytes(content)
    with pytest.raises(
        UserError, match=rf"net\.safetensors is not a readable safetensors file \(.*{reason}.*\)"
    ) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no model file .*net\.safetensors"):
        load_model(tmp_path / "net.safetensors")


def test_a_run_can_write_it_and_a_student_and_a_test_take_it(
    temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = ["--data=tiny.TinyDataModule", "--data.count=64", "--trainer.max_epochs=1", "--trainer.accelerator=cpu"]
    tiny += ["--trainer.enable_progress_bar=false", "--model.network=tiny.TinyNetwork", "--files.onnx=null"]
    assert main(["fit", "--config=student.yaml", *tiny, "--files.weights=model.safetensors"]) == 0
    written = Path("lightning_logs/student/version_0/model.safetensors")
    assert f"  {written.name}\n" in capsys.readouterr().out
    teacher = [
        "--model.teacher=Teacher",
        f"--model.teacher.weights={written}",
        "--model.teacher.network=tiny.TinyNetwork",
    ]
    assert main(["fit", "--model=Distill", "--model.losses={kd: SoftTargets}", *tiny, *teacher]) == 0
    assert f"Teacher: {written} (TinyNetwork trained on Tiny for 1 epoch" in capsys.readouterr().out
    measure = [
        "--data=tiny.TinyDataModule",
        "--data.count=64",
        "--model=Classifier",
        "--model.network=tiny.TinyNetwork",
    ]
    assert main(["test", *measure, f"--ckpt_path={written}"]) == 0
