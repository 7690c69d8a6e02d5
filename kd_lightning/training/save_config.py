"""The run's config, kept beside its results."""

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.cli import SaveConfigCallback

from kd_lightning.callbacks.run_folder import run_folder
from kd_lightning.files import atomic_write


class SaveConfig(SaveConfigCallback):
    """Write ``config.yaml`` into the run's folder, atomically."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the file in the first process."""
        folder = run_folder(trainer)
        if folder is not None:
            with atomic_write(folder / self.config_filename) as path:
                path.write_text(self.parser.dump(self.config, skip_unset=False, skip_validation=True), encoding="utf-8")
