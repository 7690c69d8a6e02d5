"""The options of the export, for the command and the callbacks."""

from dataclasses import dataclass, field
from typing import Literal

from kd_lightning.export.onnx import Preprocess
from kd_lightning.export.quantize import DynamicLayers
from kd_lightning.machine.cpu import needs_reduce_range


@dataclass(frozen=True)
class QuantizationSettings:
    """How int8 files are made.

    Args:
        layers: Of ``dynamic``: ``linear``, or ``all``: convolutions too, as in the reference notebook, which runs at
            0.4 to 0.8 times fp32's speed.
        reduce_range: Of ``static``: ``true`` keeps the accuracy on every CPU; ``auto`` only where this CPU needs it.
        calibration_images: Of ``static``: number of training images that fix the ranges, drawn evenly from the classes.
    """

    layers: DynamicLayers = "linear"
    reduce_range: bool | Literal["auto"] = True
    calibration_images: int = 512

    @property
    def reduces_range(self) -> bool:
        """Whether static files use 7 of the 8 bits of their weights."""
        return needs_reduce_range() if self.reduce_range == "auto" else self.reduce_range


@dataclass(frozen=True)
class ExportSettings:
    """How files are written and checked.

    Args:
        preprocess: ``outside``: the files take normalized float32 images (B, C, S, S) and give logits. ``inside``: they
            take plain uint8 pixels (B, S, S, C) and give probabilities.
        max_difference: Largest allowed difference of an fp32 logit from torch's; where logits exceed 10 in size, that
            times 1e-5.
        max_drop: Largest allowed loss of accuracy of an int8 file, in percentage points; one image always passes.
        measure_speed: Measure each file's speed on this machine.
        quantization: How int8 files are made.
    """

    preprocess: Preprocess = "outside"
    max_difference: float = 1e-4
    max_drop: float = 0.5
    measure_speed: bool = True
    quantization: QuantizationSettings = field(default_factory=QuantizationSettings)
