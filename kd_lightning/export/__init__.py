"""Export to ONNX files, each of which is compared with torch before it is saved."""

from kd_lightning.export.rehearsal import rehearse_export
from kd_lightning.export.report import ExportReport, GateError, Row
from kd_lightning.export.settings import ExportSettings, QuantizationSettings
from kd_lightning.export.variants import export_variants
from kd_lightning.export.verify import Variant

__all__ = [
    "ExportReport",
    "ExportSettings",
    "GateError",
    "QuantizationSettings",
    "Row",
    "Variant",
    "export_variants",
    "rehearse_export",
]
