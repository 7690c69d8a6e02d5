"""Which layers lose the most when they are quantized."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from kd_lightning.export.quantize import quantize_static
from kd_lightning.inference.onnx_predictor import Floats, open_session

LAYERS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}


def sensitive_layers(source: Path, calibration: Sequence[Floats], *, reduce_range: bool) -> list[str]:
    """Return the names of all layers with weights, the most sensitive first.

    One layer is quantized at a time; its sensitivity is the mean squared change of the calibration images' logits.

    Args:
        source: A file of ``export_onnx`` in fp32 with the normalization outside.
        calibration: Batches of normalized training images, each (B, C, S, S), float32.
        reduce_range: As in ``quantize_static``.
    """
    expected = _logits(source, calibration)
    errors: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        target = Path(folder, "one_layer.onnx")
        for name in layers_with_weights(source):
            quantize_static(source, target, calibration, reduce_range=reduce_range, only_nodes=[name])
            errors[name] = float(np.square(_logits(target, calibration) - expected).mean())
    return sorted(errors, key=lambda name: errors[name], reverse=True)


def layers_with_weights(source: Path) -> list[str]:
    """Return the names of the nodes that static quantization gives int8 weights, in the graph's order."""
    graph = onnx.load(source).graph
    weights = {tensor.name for tensor in graph.initializer}
    return [node.name for node in graph.node if node.op_type in LAYERS and weights & set(node.input[:2])]


def _logits(path: Path, batches: Sequence[Floats]) -> Floats:
    session = open_session(path)
    return np.concatenate([session.run(None, {"images": batch})[0] for batch in batches])
