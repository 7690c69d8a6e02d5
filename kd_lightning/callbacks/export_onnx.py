"""ONNX files of the trained network, verified before they are saved under their names."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from kd_lightning.callbacks.averages import end_training
from kd_lightning.callbacks.run_folder import run_folder
from kd_lightning.callbacks.trained import is_untrained, training_record
from kd_lightning.callbacks.trainer_callbacks import callbacks_of
from kd_lightning.errors import UserError
from kd_lightning.export import (
    ExportReport,
    ExportSettings,
    GateError,
    QuantizationSettings,
    Variant,
    export_variants,
    rehearse_export,
)
from kd_lightning.files import plain_name
from kd_lightning.networks.fusable import fused
from kd_lightning.wording import counted

if TYPE_CHECKING:
    from kd_lightning.tasks import Task


class ExportONNX(Callback):
    """Export the trained network to ONNX when training ends, and check before training that this will work.

    The file holds only the network (no teacher, no regressor), takes batches of any size, and stores the metadata that
    prediction needs. It is compared with the network on the test images; one that fails is kept as
    ``*.rejected.onnx``.

    Args:
        filename: Name of the fp32 file in the run's folder; it ends in ``.onnx``.
        settings: How the file is written and judged.
    """

    def __init__(self, filename: str = "model.onnx", **settings: Any) -> None:
        self.names: dict[Variant, str] = {"fp32": plain_name(filename, ".onnx", "ExportONNX.filename")}
        self.settings = ExportSettings(**settings, quantization=QuantizationSettings())
        self.report: ExportReport | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Export with one image before training, so that an export that cannot work fails before training."""
        task = cast("Task", pl_module)
        if trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            rehearse_export(fused(task.network), task.model_info(), list(self.names), self.settings)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write all files of the run in one pass, so that they are measured side by side; skip an untrained network."""
        task = cast("Task", pl_module)
        if is_untrained(trainer):
            return
        end_training(trainer)
        folder = run_folder(trainer)
        if folder is None:
            return
        error: UserError | None = None
        if trainer.is_global_zero:
            try:
                self.report = self._export(trainer, task, folder)
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

    def _export(self, trainer: Trainer, task: "Task", folder: Path) -> ExportReport:
        info = replace(task.model_info(), **training_record(trainer))
        train, test = task.data.split("train"), task.data.split("test")
        network = fused(task.network)
        task.print(f"Export: {counted(len(self.names), 'ONNX file')}, compared with the network on the test images.")
        return export_variants(network, info, folder, self.names, train=train, test=test, settings=self.settings)


class QuantizeONNX(Callback):
    """Let ``ExportONNX``, which must be in the callbacks too, write a smaller form of the network.

    Args:
        filename: Name of the file in the run's folder; it ends in ``.onnx``.
        variant: ``dynamic``: uint8 weights of the linear layers. ``static``: int8 weights and activations throughout,
            calibrated on training images. ``fp16``: half the size at fp32's speed.
        settings: How int8 files are made.
    """

    def __init__(
        self,
        filename: str = "model_int8.onnx",
        variant: Literal["dynamic", "static", "fp16"] = "dynamic",
        **settings: Any,
    ) -> None:
        self.filename = plain_name(filename, ".onnx", "QuantizeONNX.filename")
        self.variant: Variant = variant
        self.settings = QuantizationSettings(**settings)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Hand the file to ``ExportONNX``."""
        export = next(iter(callbacks_of(trainer, ExportONNX)), None)
        if export is None:
            raise UserError("QuantizeONNX needs ExportONNX beside it; add it to trainer.callbacks.")
        others = [name for variant, name in export.names.items() if variant != self.variant]
        if self.filename in others:
            raise UserError(f"two ONNX files of the run are called {self.filename}; give each its own filename.")
        if export.names.get(self.variant, self.filename) != self.filename:
            raise UserError(f"two QuantizeONNX write the {self.variant} file; leave one of them out.")
        export.names[self.variant] = self.filename
        export.settings = replace(export.settings, quantization=self._joined(export.settings.quantization))

    def _joined(self, others: QuantizationSettings) -> QuantizationSettings:
        """Return the settings of all ``QuantizeONNX`` of a run: each sets how its own variant is made."""
        dynamic, static = (self.settings, others) if self.variant == "dynamic" else (others, self.settings)
        return others if self.variant == "fp16" else replace(static, layers=dynamic.layers)
