"""Build one variant of an exported file and check its gate."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx

from kd_lightning.export.onnx import save
from kd_lightning.export.preprocess import put_preprocessing_inside
from kd_lightning.export.quantize import convert_fp16, quantize_dynamic, quantize_static
from kd_lightning.export.sensitivity import sensitive_layers
from kd_lightning.export.settings import ExportSettings
from kd_lightning.export.verify import Measured, Reference, Variant, check_file, gate_failure, measure
from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.inference.onnx_predictor import Floats


@dataclass(frozen=True)
class Built:
    """A variant that is ready to be saved.

    Attributes:
        path: The file.
        measured: How it compares with torch.
        failure: The gate it fails, or ``None``.
        float_layers: The layers kept in float so that its accuracy holds.
    """

    path: Path
    measured: Measured
    failure: str | None
    float_layers: tuple[str, ...] = ()


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

    def build(self, variant: Variant) -> Built:
        """Build a variant; where a static one fails its gate, keep its most sensitive layers in float."""
        built = self.attempt(variant)
        if built.failure and variant == "static":
            built = self._search(built)
        save(onnx.load(built.path), replace(self.info, accuracy=built.measured.accuracy), built.path)
        check_file(built.path)
        return built

    def attempt(self, variant: Variant, keep: tuple[str, ...] = ()) -> Built:
        """Write a variant with the layers ``keep`` in float, compare it with torch and check its gate."""
        path = self.fp32.with_name(f"{variant}-{len(keep)}.onnx")
        self._write(variant, path, keep)
        model = onnx.load(path)
        if self.settings.preprocess == "inside":
            put_preprocessing_inside(model, self.info)
        save(model, self.info, path)
        measured = measure(path, self.reference)
        return Built(path, measured, gate_failure(variant, measured, self.reference, self.settings.gates), keep)

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

    def _search(self, failed: Built) -> Built:
        """Keep one more layer in float, the most sensitive first, until the gate holds or a single layer is left."""
        layers = sensitive_layers(self.fp32, self.calibration, reduce_range=self.settings.quantization.reduces_range)
        for count in range(1, len(layers)):
            built = self.attempt("static", tuple(layers[:count]))
            if built.failure is None:
                return built
        return failed
