"""Training on two processes of this machine's CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import TinyDataModule
from training_example import NO_EXPORT, TINY, fit

from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.networks import DeepNN
from kd_lightning.networks.weights import read_weights, save_weights

OPTIONS = [NO_EXPORT, "--model.network.dropout=0", "--model.teacher.weights=teacher.pth"]
TESTS = Path(__file__).parents[1]


@pytest.fixture
def teacher(temp_folder: Path) -> None:
    """A teacher that has not learned anything."""
    network, data = DeepNN(num_classes=4, image_size=8), TinyDataModule()
    pixels, path = data.normalization, network.class_path
    info = ModelInfo(path, network.arguments, data.class_names, pixels.mean, pixels.std, data.image_size, data.name)
    save_weights(Path("teacher.pth"), network, info)


def test_two_processes_of_half_a_batch_learn_and_test_as_one_of_a_whole_batch(teacher: None) -> None:
    fit("cosine.yaml", *OPTIONS)
    options = [*TINY, *OPTIONS, "--data.batch_size=16", "--trainer.devices=2"]
    subprocess.run(
        [sys.executable, "-m", "kd_lightning", "fit", "--config=cosine.yaml", *options],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        check=True,
        timeout=300,
    )
    one, two = (Path("lightning_logs/cosine") / version for version in ("version_0", "version_1"))
    (expected, _), (found, _) = (read_weights(*folder.glob("*.pth")) for folder in (one, two))
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, rtol=1e-3, atol=1e-4)
    tested, again = (json.loads((folder / "summary.json").read_text())["metrics"] for folder in (one, two))
    assert again["test/accuracy"] == tested["test/accuracy"]
