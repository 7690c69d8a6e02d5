"""Smaller and faster forms of an exported file: int8 weights, int8 throughout, fp16."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization

from kd_lightning.export.onnx import silence
from kd_lightning.files import atomic_write
from kd_lightning.inference.onnx_predictor import Floats, open_session

DynamicLayers = Literal["linear", "all"]
LAYERS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}


def quantize_dynamic(source: Path, target: Path, *, layers: DynamicLayers = "linear") -> None:
    """Write ``source`` with uint8 weights; the activations' ranges are taken from each batch at prediction.

    An image's logits therefore depend slightly on the other images of the batch.

    Args:
        source: A file of ``export_onnx`` with the normalization outside.
        target: The file to write.
        layers: ``linear``: the fully connected layers. ``all``: convolutions too, which makes the file smaller but
            slower than fp32 (0.4 to 0.8 times its speed).
    """
    # The library turns Gemm into MatMul first. int8 weights would not load before onnxruntime 1.24.
    kinds = ["MatMul"] if layers == "linear" else None
    with atomic_write(target) as temporary, silence():
        quantization.quantize_dynamic(
            onnx.load(source), temporary, op_types_to_quantize=kinds, weight_type=quantization.QuantType.QUInt8
        )


def quantize_static(
    source: Path,
    target: Path,
    calibration: Sequence[Floats],
    *,
    reduce_range: bool,
    exclude_nodes: Sequence[str] = (),
    only_nodes: Sequence[str] = (),
) -> None:
    """Write ``source`` with uint8 activations and int8 weights per channel (QDQ), with ranges fixed by calibration.

    Args:
        source: A file of ``export_onnx`` with the normalization outside.
        target: The file to write.
        calibration: Batches of normalized training images, each (B, C, S, S), float32; 512 images suffice.
        reduce_range: Use 7 of the weights' 8 bits, so that no sum saturates on CPUs with AVX2 but without VNNI.
        exclude_nodes: Names of nodes that stay in float.
        only_nodes: Names of the nodes to quantize; none means all.

    Raises:
        UserError: The file cannot be written.
    """
    with atomic_write(target) as temporary, silence():
        quantization.quantize_static(
            onnx.load(source),
            temporary,
            _Batches(calibration),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            reduce_range=reduce_range,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            nodes_to_exclude=list(exclude_nodes),
            nodes_to_quantize=list(only_nodes),
        )


def sensitive_layers(source: Path, calibration: Sequence[Floats], *, reduce_range: bool) -> list[str]:
    """Return the names of all layers with weights, the most sensitive first.

    One layer is quantized at a time; its sensitivity is the mean squared change of the calibration images' logits.

    Args:
        source: A file of ``export_onnx`` in fp32 with the normalization outside.
        calibration: Batches of normalized training images, each (B, C, S, S), float32.
        reduce_range: As in ``quantize_static``.
    """
    graph, expected = onnx.load(source).graph, _logits(source, calibration)
    weights = {tensor.name for tensor in graph.initializer}
    layers = [node.name for node in graph.node if node.op_type in LAYERS and weights & set(node.input[:2])]
    errors: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        target = Path(folder, "one_layer.onnx")
        for name in layers:
            quantize_static(source, target, calibration, reduce_range=reduce_range, only_nodes=[name])
            errors[name] = float(np.square(_logits(target, calibration) - expected).mean())
    return sorted(errors, key=lambda name: errors[name], reverse=True)


def _logits(path: Path, batches: Sequence[Floats]) -> Floats:
    session = open_session(path)
    return np.concatenate([session.run(None, {"images": batch})[0] for batch in batches])


def may_saturate(path: Path) -> bool:
    """Return whether a file has int8 weights of more than 7 bits, whose sums saturate with AVX2 but without VNNI."""
    tensors = [tensor for tensor in onnx.load(path).graph.initializer if tensor.data_type == TensorProto.INT8]
    return any(np.abs(numpy_helper.to_array(tensor).astype(np.int16)).max(initial=0) > 64 for tensor in tensors)


def convert_fp16(source: Path, target: Path) -> None:
    """Write ``source`` with its weights in half precision: half the size at fp32's speed.

    The weights become float32 again when the file is loaded, because most CPUs, and onnxruntime in the browser, have
    no half-precision arithmetic: with it the file would be slower, and large activations would overflow.
    """
    model = onnx.load(source)
    nodes = [_store_half(tensor) for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT]
    nodes += model.graph.node
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    with atomic_write(target) as temporary:
        onnx.save(model, temporary)


def _store_half(tensor: TensorProto) -> onnx.NodeProto:
    """Change a weight to half precision; return the node that casts it to float32 under its name."""
    name, half = tensor.name, f"{tensor.name}.half"
    with np.errstate(over="ignore"):  # the gate finds what overflows
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), half))
    return helper.make_node("Cast", [half], [name], to=TensorProto.FLOAT)


class _Batches(quantization.CalibrationDataReader):
    """Hands the library one calibration batch after the other."""

    def __init__(self, batches: Sequence[Floats]) -> None:
        self._batches = iter(batches)

    def get_next(self) -> dict[str, Floats] | None:
        batch = next(self._batches, None)
        return None if batch is None else {"images": batch}
