"""How to export: the values that a user may set."""

from dataclasses import dataclass, field
from typing import Literal

from kd_lightning.export.onnx import Preprocess
from kd_lightning.export.quantize import DynamicLayers
from kd_lightning.export.verify import Gates
from kd_lightning.machine.cpu import needs_reduce_range


@dataclass(frozen=True)
class ExportSettings:
    """How to export.

    Attributes:
        preprocess: ``outside``: the files take normalized float32 images and give logits. ``inside``: they take plain
            uint8 pixels (B, S, S, C) and give probabilities.
        dynamic_layers: ``linear``, or ``all``: convolutions too, which is slower than fp32.
        reduce_range: ``True``: the static file is as accurate on every CPU. ``auto``: only where this CPU needs it.
        calibration_images: Number of training images that fix the ranges of the static file.
        seed: Seed of their draw.
        gates: How far a file may be from the network.
        speed: Measure each file's speed on this machine.
    """

    preprocess: Preprocess = "outside"
    dynamic_layers: DynamicLayers = "linear"
    reduce_range: bool | Literal["auto"] = True
    calibration_images: int = 512
    seed: int = 0
    gates: Gates = field(default_factory=Gates)
    speed: bool = True

    @property
    def reduces_range(self) -> bool:
        """Whether static files use 7 of the 8 bits of their weights."""
        return needs_reduce_range() if self.reduce_range == "auto" else self.reduce_range
