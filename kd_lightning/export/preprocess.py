"""Normalization and softmax inside an ONNX file, which then takes plain pixels in any runtime."""

import onnx
from onnx import TensorProto, helper, numpy_helper

from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.inference.onnx_predictor import factor_and_offset


def put_preprocessing_inside(model: onnx.ModelProto, info: ModelInfo) -> None:
    """Change ``images`` -> ``logits`` to ``pixels`` (B, S, S, C) uint8 -> ``probabilities``, in place.

    Args:
        model: A model that ``export_onnx`` wrote, or its quantized form.
        info: Its mean and standard deviation.
    """
    graph = model.graph
    shape: list[str | int | None] = ["batch", info.image_size, info.image_size, info.in_channels]
    graph.input[0].CopyFrom(helper.make_tensor_value_info("pixels", TensorProto.UINT8, shape))
    graph.output[0].CopyFrom(
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", len(info.class_names)])
    )
    nodes = [*_normalization(), *graph.node, helper.make_node("Softmax", ["logits"], ["probabilities"], axis=-1)]
    del graph.node[:]
    graph.node.extend(nodes)
    factor, offset = factor_and_offset(info)
    graph.initializer.append(numpy_helper.from_array(factor, "pixels.factor"))
    graph.initializer.append(numpy_helper.from_array(offset, "pixels.offset"))


def _normalization() -> list[onnx.NodeProto]:
    """The same arithmetic as in training: (pixels / 255 - mean) / std as one factor and one offset a channel."""
    return [
        helper.make_node("Cast", ["pixels"], ["pixels.float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["pixels.float", "pixels.factor"], ["pixels.scaled"]),
        helper.make_node("Add", ["pixels.scaled", "pixels.offset"], ["pixels.normalized"]),
        helper.make_node("Transpose", ["pixels.normalized"], ["images"], perm=[0, 3, 1, 2]),
    ]
