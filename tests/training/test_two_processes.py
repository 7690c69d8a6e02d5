"""Training on two processes of this machine's CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from training_example import NO_EXPORT, TINY, fit

from kd_lightning.networks.weights import read_weights

OPTIONS = [NO_EXPORT, "--model.network.dropout=0"]
TESTS = Path(__file__).parents[1]


def test_two_processes_of_half_a_batch_learn_and_test_as_one_of_a_whole_batch(temp_folder: Path) -> None:
    fit("student.yaml", *OPTIONS)
    options = [*TINY, *OPTIONS, "--data.batch_size=16", "--trainer.devices=2"]
    subprocess.run(
        [sys.executable, "-m", "kd_lightning", "fit", "--config=student.yaml", *options],
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        check=True,
        timeout=300,
    )
    one, two = (Path("lightning_logs/student") / version for version in ("version_0", "version_1"))
    (expected, _), (found, _) = (read_weights(folder / "NNLight.pth") for folder in (one, two))
    for name, values in expected.items():
        torch.testing.assert_close(found[name], values, rtol=1e-3, atol=1e-4)
    tested, again = (json.loads((folder / "summary.json").read_text())["metrics"] for folder in (one, two))
    assert again["test/accuracy"] == tested["test/accuracy"]
