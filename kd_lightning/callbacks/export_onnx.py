"""ONNX files of the trained network, verified before they get their names."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from kd_lightning.callbacks.run_folder import run_folder
from kd_lightning.errors import UserError
from kd_lightning.export import (
    ExportReport,
    ExportSettings,
    GateError,
    Gates,
    Variant,
    export_variants,
    rehearse_export,
)
from kd_lightning.export.onnx import Preprocess
from kd_lightning.export.quantize import DynamicLayers
from kd_lightning.files import plain_name
from kd_lightning.tasks import Task
from kd_lightning.tasks.trained import is_untrained, training_record


class ExportONNX(Callback):
    """Export the trained network to ONNX when training ends, and check before training that this will work.

    The file holds the network alone (no teacher, no regressor), takes batches of any size, and says what prediction
    needs to know. It is compared with the network on the test images; one that fails is kept as ``*.rejected.onnx``.

    Args:
        filename: Name of the fp32 file in the run's folder; it ends in ``.onnx``.
        preprocess: ``outside``: the file takes normalized float32 images (B, C, S, S) and gives logits. ``inside``: it
            takes plain uint8 pixels (B, S, S, C) and gives probabilities.
        max_difference: Largest allowed difference of a logit from torch's.
        max_drop: Largest allowed loss of accuracy of a quantized file, in percentage points.
        measure_speed: Measure each file's speed on this machine.
    """

    works_with_fast_path = True

    def __init__(
        self,
        filename: str = "model.onnx",
        preprocess: Preprocess = "outside",
        max_difference: float = 1e-4,
        max_drop: float = 0.5,
        measure_speed: bool = True,
    ) -> None:
        self.names: dict[Variant, str] = {"fp32": plain_name(filename, ".onnx", "ExportONNX.filename")}
        gates = Gates(difference=max_difference, drop=max_drop)
        self.settings = ExportSettings(preprocess=preprocess, gates=gates, speed=measure_speed)
        self.report: ExportReport | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Try it on one image before training, so that nobody learns only at the end that it cannot work."""
        assert isinstance(pl_module, Task)
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            rehearse_export(pl_module.network, pl_module.model_info(), list(self.names), self.settings)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write all files of the run in one pass, so that they are measured side by side; none of an untrained one."""
        if is_untrained(trainer):
            return
        folder = run_folder(trainer)
        if folder is None:
            return
        error: UserError | None = None
        if trainer.is_global_zero:
            try:
                self.report = self._export(trainer, pl_module, folder)
            except UserError as caught:
                self.report = caught.report if isinstance(caught, GateError) else None
                error = caught
            self._log(trainer)
        failed = trainer.strategy.broadcast(None if error is None else str(error))
        if failed is not None:
            raise error or UserError(failed)

    def _log(self, trainer: Trainer) -> None:
        """Show the report in TensorBoard, too."""
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and self.report is not None:
                logger.experiment.add_text("export", self.report.to_markdown())

    def _export(self, trainer: Trainer, task: LightningModule, folder: Path) -> ExportReport:
        assert isinstance(task, Task)
        info = replace(task.model_info(), **training_record(trainer))
        train, test = task.data.split("train"), task.data.split("test")
        return export_variants(task.network, info, folder, self.names, train=train, test=test, settings=self.settings)


class QuantizeONNX(Callback):
    """Let ``ExportONNX``, which must stand beside it, write a smaller form of the network too.

    Args:
        filename: Name of the file in the run's folder; it ends in ``.onnx``.
        variant: ``dynamic``: uint8 weights of the linear layers. ``static``: int8 weights and activations throughout,
            calibrated on training images. ``fp16``: half the size at fp32's speed.
        layers: Of ``dynamic``: ``linear``, or ``all``: convolutions too, which runs at 0.4 to 0.8 times fp32's speed.
        reduce_range: Of ``static``: ``true`` keeps the accuracy on every CPU; ``auto`` only where this CPU needs it.
        calibration_images: Of ``static``: number of training images that fix the ranges, drawn evenly from the classes.
    """

    works_with_fast_path = True

    def __init__(
        self,
        filename: str = "model_int8.onnx",
        variant: Literal["dynamic", "static", "fp16"] = "dynamic",
        layers: DynamicLayers = "linear",
        reduce_range: bool | Literal["auto"] = True,
        calibration_images: int = 512,
    ) -> None:
        self.filename = plain_name(filename, ".onnx", "QuantizeONNX.filename")
        self.variant: Variant = variant
        self.layers: DynamicLayers = layers
        self.reduce_range: bool | Literal["auto"] = reduce_range
        self.calibration_images = calibration_images

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Hand the file to ``ExportONNX``."""
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        export = next((callback for callback in callbacks if isinstance(callback, ExportONNX)), None)
        if export is None:
            raise UserError("QuantizeONNX needs ExportONNX beside it; add it to trainer.callbacks.")
        others = [name for variant, name in export.names.items() if variant != self.variant]
        if self.filename in others:
            raise UserError(f"two ONNX files of the run are called {self.filename}; give each its own filename.")
        if export.names.get(self.variant, self.filename) != self.filename:
            raise UserError(f"two QuantizeONNX write the {self.variant} file; leave one of them out.")
        export.names[self.variant] = self.filename
        if self.variant == "dynamic":
            export.settings = replace(export.settings, dynamic_layers=self.layers)
        elif self.variant == "static":
            export.settings = replace(
                export.settings, reduce_range=self.reduce_range, calibration_images=self.calibration_images
            )
