"""Check in a fresh session that an exported file is the same network, as accurate as in torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx
import torch

from kd_lightning.data.normalize import Normalization
from kd_lightning.errors import UserError
from kd_lightning.export.onnx import on_cpu
from kd_lightning.export.paired import paired_interval
from kd_lightning.export.settings import ExportSettings
from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.inference.onnx_predictor import Floats, OnnxPredictor, Pixels, softmax
from kd_lightning.machine.host_memory import freed_memory_kept
from kd_lightning.networks import Network

Variant = Literal["fp32", "dynamic", "static", "fp16"]
Labels = npt.NDArray[np.int64]
PARITY_BATCHES = (1, 7, 128)
BATCH = 256
CALIBRATION_BATCH = 64
PIXELS_AT_ONCE = 2**20
"""Pixels of a batch, which bound the memory of its maps: 256 images of 64 x 64, 20 of 224 x 224."""
FP16_DROP = 0.1
"""Largest allowed loss of accuracy of an fp16 file, in percentage points."""


@dataclass(frozen=True)
class Reference:
    """Torch's logits of the test images.

    Attributes:
        images: The images, (N, S, S, C), uint8.
        logits: The network's logits, (N, K).
        labels: The true classes, (N,), or ``None`` where they are unknown.
    """

    images: Pixels
    logits: Floats
    labels: Labels | None


@dataclass(frozen=True)
class Measured:
    """How a file compares with torch.

    Attributes:
        difference: Largest difference of an output (a logit, or a probability with the softmax inside) from torch's.
        agreement: Share of images that get torch's label.
        accuracy: Top-1 accuracy in [0, 1], or ``None`` without labels.
        change: Accuracy minus torch's, in percentage points.
        interval: 95 % confidence interval of ``change`` over images like the measured ones.
    """

    difference: float
    agreement: float
    accuracy: float | None
    change: float | None
    interval: tuple[float, float] | None = None


def torch_reference(network: Network, info: ModelInfo, images: Pixels, labels: Labels | None) -> Reference:
    """Run the network in torch on the CPU in full float32 precision on images (N, S, S, C), uint8."""
    network = on_cpu(network).to_channels_last()
    normalization = Normalization(info.mean, info.std)
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")  # "medium", which training may have set, means bfloat16
    try:
        with torch.inference_mode(), torch.autocast("cpu", enabled=False), freed_memory_kept():
            parts = [
                network(normalization.apply(torch.from_numpy(np.array(part)).permute(0, 3, 1, 2))).numpy()
                for part in batches(images)
            ]
    finally:
        torch.set_float32_matmul_precision(precision)
    return Reference(images, np.concatenate(parts), labels)


def measure(path: Path, reference: Reference) -> Measured:
    """Check the file in full, open it in a fresh session and compare it with torch on the reference's images.

    Raises:
        UserError: The file is damaged.
    """
    check_file(path)
    predictor = OnnxPredictor(path)
    expected = softmax(reference.logits) if predictor.inside else reference.logits
    images = reference.images
    sizes = [_at_once(images, size) for size in PARITY_BATCHES]
    parity = [np.abs(predictor.outputs(images[:size]) - expected[:size]).max() for size in sizes]
    outputs = np.concatenate([predictor.outputs(part) for part in batches(images)])
    difference = float(np.max([*parity, np.abs(outputs - expected).max()]))
    same = agreement(outputs, expected)
    if reference.labels is None:
        return Measured(difference, same, None, None)
    ours, theirs = (values.argmax(axis=1) == reference.labels for values in (outputs, reference.logits))
    low, high = paired_interval(ours, theirs)
    change = 100 * float(ours.mean() - theirs.mean())
    return Measured(difference, same, float(ours.mean()), change, (100 * low, 100 * high))


def check_file(path: Path) -> None:
    """Run onnx's full check of a file; raise ``UserError`` where it fails."""
    try:
        onnx.checker.check_model(path, full_check=True)
    except Exception as error:  # the checker's and protobuf's errors share no narrower base
        raise UserError(f"{path} is damaged or not an ONNX file; export it again.") from error


def allowed_drop(variant: Variant, settings: ExportSettings) -> float | None:
    """Return the largest loss of accuracy of a variant in percentage points; fp32 has no such gate."""
    return None if variant == "fp32" else FP16_DROP if variant == "fp16" else settings.max_drop


def gate_failure(variant: Variant, measured: Measured, reference: Reference, settings: ExportSettings) -> str | None:
    """Return which gate a file fails, by how much and what to try; ``None`` where it passes."""
    if not np.isfinite(measured.difference):
        return f"it gives values that are not finite; leave out {variant}"
    drop = allowed_drop(variant, settings)
    if drop is None:
        return _parity_failure(measured, tolerance(reference.logits, settings.max_difference))
    allowed = max(drop, 100 / len(reference.images))  # a single image may always change
    if measured.change is None or -measured.change <= allowed + 1e-9:
        return None
    return f"it loses {-measured.change:.2f} points of top-1 accuracy, allowed are {allowed:.2f}; {_ADVICE[variant]}"


_ADVICE: dict[Variant, str] = {
    "dynamic": "try static, or allow a larger drop",
    "static": "try reduce_range, more calibration images or dynamic, or allow a larger drop",
    "fp16": "try fp32 or dynamic, or allow a larger drop",
}


def _parity_failure(measured: Measured, limit: float) -> str | None:
    if measured.difference > limit:
        return (
            f"its outputs differ from torch's by up to {measured.difference:.1e}, allowed are {limit:.1e}; "
            "look for layers that are random or change in evaluation"
        )
    if measured.agreement < 1:
        return f"only {100 * measured.agreement:.2f} % of the images get torch's label; report this as a bug"
    return None


def batches(images: Pixels) -> list[Pixels]:
    """Split images (N, S, S, C) into parts of at most 256, and of fewer where they are larger than 64 pixels."""
    size = _at_once(images, BATCH)
    return [images[start : start + size] for start in range(0, len(images), size)]


def normalized_batches(images: Pixels, info: ModelInfo) -> list[Floats]:
    """Return images (N, S, S, C), uint8, as the network sees them: batches (B, C, S, S), float32."""
    normalization = Normalization(info.mean, info.std)
    channels_first = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2)
    parts = torch.split(channels_first, _at_once(images, CALIBRATION_BATCH))
    return [normalization.apply(part).contiguous().numpy() for part in parts]


def _at_once(images: Pixels, most: int) -> int:
    height, width = images.shape[1:3]
    return max(1, min(most, PIXELS_AT_ONCE // int(height * width)))


def agreement(outputs: Floats, expected: Floats) -> float:
    """Return the share of images with torch's label; of classes that tie in torch, either counts."""
    chosen = np.take_along_axis(expected, outputs.argmax(axis=1, keepdims=True), axis=1)[:, 0]
    return float((expected.max(axis=1) - chosen <= 2 * tolerance(expected, ExportSettings.max_difference)).mean())


def tolerance(expected: Floats, difference: float) -> float:
    """Return the allowed difference of a value: float32 rounds large values more coarsely than a fixed one."""
    return max(difference, 1e-5 * float(np.abs(expected).max()))
