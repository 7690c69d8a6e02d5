"""The commands fit, validate and test: LightningCLI over this project's tasks and data."""

from kd_lightning.training.cli import TrainingCLI, main

__all__ = ["TrainingCLI", "main"]
