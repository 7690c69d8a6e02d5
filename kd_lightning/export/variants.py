"""Export a network in several forms; each is compared with torch before it is saved."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from kd_lightning.data.split import stratified_split
from kd_lightning.errors import UserError
from kd_lightning.export.build import Builder
from kd_lightning.export.onnx import export_onnx
from kd_lightning.export.report import ExportReport, GateError, Row
from kd_lightning.export.settings import ExportSettings
from kd_lightning.export.speed import measure_speeds, noise
from kd_lightning.export.verify import Reference, Variant, normalized_batches, torch_reference
from kd_lightning.files import put_in_place, temp_folder, writing
from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.inference.onnx_predictor import Floats
from kd_lightning.networks import Network


def export_variants(
    network: Network,
    info: ModelInfo,
    folder: Path,
    names: Mapping[Variant, str],
    *,
    train: tuple[Tensor, Tensor] | None,
    test: tuple[Tensor, Tensor] | None,
    settings: ExportSettings | None = None,
) -> ExportReport:
    """Write one verified file per variant; one that fails its gate is kept as ``NAME.rejected.onnx`` only.

    Args:
        network: The network to export; it does not change.
        info: What prediction needs.
        folder: The folder to write to.
        names: File name of each variant to export: ``fp32``, ``dynamic``, ``static``, ``fp16``.
        train: Training images (N, S, S, C), uint8, and their labels (N,), for the calibration of ``static``.
        test: The same of the test split; without it no accuracy is measured, and torch is compared on noise.
        settings: How to export.

    Raises:
        GateError: A file failed its gate; the error's ``report`` covers all files.
        UserError: There is no calibration set, the network cannot be exported, or a file cannot be written.
    """
    settings = settings or ExportSettings()
    calibration = _calibration(info, train, settings) if "static" in names else []
    with writing(folder), temp_folder(folder) as work:
        export_onnx(network, info, work / "fp32.onnx")
        builder = Builder(work / "fp32.onnx", info, settings, calibration, _reference(network, info, test))
        rows = [_place(builder.build(variant), folder / name) for variant, name in names.items()]
        report = ExportReport(_timed(rows, builder) if settings.measure_speed else rows)
    if any(row.failure for row in rows):
        raise GateError(report)
    return report


def _place(row: Row, target: Path) -> Row:
    """Move a file to its name, or to ``*.rejected.onnx``."""
    rejected = target.with_suffix(".rejected.onnx")
    rejected.unlink(missing_ok=True)
    path = rejected if row.failure else target
    put_in_place(row.path, path)
    return replace(row, path=path)


def _timed(rows: Sequence[Row], builder: Builder) -> list[Row]:
    """Add to each good file its speed in comparison with fp32."""
    files: dict[str, Path] = {row.variant: row.path for row in rows if row.failure is None}
    speeds = measure_speeds({"fp32": builder.fp32} | files, "fp32", builder.info)
    return [replace(row, speed=speeds[row.variant]) if row.failure is None else row for row in rows]


def _calibration(info: ModelInfo, train: tuple[Tensor, Tensor] | None, settings: ExportSettings) -> list[Floats]:
    if train is None:
        raise UserError("static needs training images to calibrate with: give --data, or leave static out.")
    images, labels = train
    count, rows = settings.quantization.calibration_images, torch.arange(len(labels))
    if 0 < count < len(labels):
        rows = stratified_split(labels.cpu(), count, seed=0)[1]
    if count < 1 or not len(rows):
        raise UserError(f"cannot draw {count} calibration images from {len(labels)}; give 512 or so training images.")
    return normalized_batches(images[rows].cpu().numpy(), info)


def _reference(network: Network, info: ModelInfo, test: tuple[Tensor, Tensor] | None) -> Reference:
    if test is None:
        return torch_reference(network, info, noise(info, 128), None)
    images, labels = test
    return torch_reference(network, info, images.cpu().numpy(), labels.cpu().numpy())
