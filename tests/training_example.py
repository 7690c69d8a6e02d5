"""Commands that train on tiny images, in this process."""

from pathlib import Path
from typing import Any

import yaml

from kd_lightning.training.cli import run

CONFIG_FOLDER = Path(__file__).parents[1] / "configs"
SHIPPED = sorted(CONFIG_FOLDER.glob("*.yaml"))
CONFIGS = [path.name for path in SHIPPED if "compared" not in yaml.safe_load(path.read_text())]  # others are studies
WHOLE = [f"{name}.yaml" for name in ("cosine", "quickstart", "regress", "student", "teacher")]
"""Configs that a test runs to their end; for the others a smoke test is enough."""
TINY = [
    "--data=tiny.TinyDataModule",
    "--data.batch_size=32",
    "--trainer.max_epochs=2",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
]
NO_EXPORT = "--files.onnx=null"


def fit(config: str, *options: str) -> Any:
    return run(["fit", f"--config={config}", *TINY, *options])
