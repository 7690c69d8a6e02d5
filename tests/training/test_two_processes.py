"""Training on two processes of this machine's CPU."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import TinyDataModule
from training_example import NO_EXPORT, TINY, fit
from two_processes import MEASURED, TEST_IMAGES, measured

from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.networks import DeepNN
from kd_lightning.networks.weights import read_weights, save_weights
from kd_lightning.teacher.cached_rows import COMPARED

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
    """A command, then fits in Python: to start processes again would take most of the time."""
    fit("cosine.yaml", *OPTIONS)
    options = [*TINY, *OPTIONS, "--data.batch_size=16", "--trainer.devices=2"]
    command = [sys.executable, str(TESTS / "two_processes.py"), "fit", "--config=cosine.yaml", *options]
    printed = subprocess.run(command, check=True, timeout=900, capture_output=True, text=True).stdout
    assert printed.count("Training: 2 processes, 16 images each, 32 a step.") == 1
    one, two = (Path("lightning_logs/cosine") / version for version in ("version_0", "version_1"))
    (expected, _), (found, _) = (read_weights(*folder.glob("*.pth")) for folder in (one, two))
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, rtol=1e-3, atol=1e-4)
    tested, again = (json.loads((folder / "summary.json").read_text())["metrics"] for folder in (one, two))
    assert again["test/accuracy"] == tested["test/accuracy"]
    files = [sorted(path.name.partition(".out")[0] for path in folder.rglob("*.*")) for folder in (one, two)]
    assert files[0] == files[1]

    for name, alone in measured(processes=1).items():
        first, second = (torch.load(f"{rank}-{MEASURED}")[name] for rank in (0, 1))
        assert first["losses"] == second["losses"] == pytest.approx(alone["losses"], rel=1e-5), name
        assert first["metrics"] == second["metrics"] == pytest.approx(alone["metrics"], rel=1e-5, abs=1e-5), name
        rows = torch.cat([first["tested"], second["tested"]]).sort().values
        assert torch.equal(rows, torch.arange(TEST_IMAGES)), name
    shares = [torch.load(f"{rank}-{MEASURED}")["flips, targets on the disk"]["passed"] for rank in (0, 1)]
    assert shares == [COMPARED + 2 * (20 + 20 + 16)] * 2  # of each view's 96 images, in parts of IMAGES_AT_ONCE
