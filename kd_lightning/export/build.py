"""Build one variant of an exported file and check its gate."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from kd_lightning.export.onnx import save
from kd_lightning.export.preprocess import put_preprocessing_inside
from kd_lightning.export.quantize import (
    convert_fp16,
    may_saturate,
    quantize_dynamic,
    quantize_static,
    sensitive_layers,
)
from kd_lightning.export.report import Row
from kd_lightning.export.settings import ExportSettings
from kd_lightning.export.verify import Reference, Variant, allowed_drop, check_file, gate_failure, measure
from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.inference.onnx_predictor import Floats


@dataclass(frozen=True)
class Builder:
    """Makes the variants of one network.

    Attributes:
        fp32: The file of ``export_onnx``, with the normalization outside; the others are written beside it.
        info: Metadata of the files.
        settings: How to export.
        calibration: Batches of normalized training images, for ``static``.
        reference: Torch's logits of the test images.
    """

    fp32: Path
    info: ModelInfo
    settings: ExportSettings
    calibration: Sequence[Floats]
    reference: Reference

    def build(self, variant: Variant) -> Row:
        """Build a variant; where a static one fails its gate, keep its most sensitive layers in float."""
        row = self.attempt(variant)
        return self._search(row) if row.failure and variant == "static" else row

    def attempt(self, variant: Variant, keep: tuple[str, ...] = ()) -> Row:
        """Write a variant with the layers ``keep`` in float, compare it with torch and check its gate."""
        path = self.fp32.with_name(f"{variant}-{len(keep)}.onnx")
        self._write(variant, path, keep)
        model = onnx.load(path)
        if self.settings.preprocess == "inside":
            put_preprocessing_inside(model, self.info)
        save(model, self.info, path)
        measured = measure(path, self.reference)
        save(model, replace(self.info, accuracy=measured.accuracy), path)
        check_file(path)
        return Row(
            variant=variant,
            path=path,
            size=path.stat().st_size,
            smaller=self.fp32.stat().st_size / path.stat().st_size,
            measured=measured,
            float_layers=keep,
            failure=gate_failure(variant, measured, self.reference, self.settings),
            may_saturate=may_saturate(path),
            max_drop=allowed_drop(variant, self.settings),
            calibrated_on=sum(map(len, self.calibration)) if variant == "static" else None,
        )

    def _write(self, variant: Variant, path: Path, keep: tuple[str, ...]) -> None:
        if variant == "fp32":
            shutil.copyfile(self.fp32, path)
        elif variant == "dynamic":
            quantize_dynamic(self.fp32, path, layers=self.settings.quantization.layers)
        elif variant == "static":
            reduce_range = self.settings.quantization.reduces_range
            quantize_static(self.fp32, path, self.calibration, reduce_range=reduce_range, exclude_nodes=keep)
        else:
            convert_fp16(self.fp32, path)

    def _search(self, failed: Row) -> Row:
        """Keep one more layer in float, the most sensitive first, until the gate holds or a single layer is left."""
        layers = sensitive_layers(self.fp32, self.calibration, reduce_range=self.settings.quantization.reduces_range)
        for count in range(1, len(layers)):
            row = self.attempt("static", tuple(layers[:count]))
            if row.failure is None:
                return row
        return failed
