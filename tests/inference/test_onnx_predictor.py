from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from export_example import held_out_split, info_of, torch_logits, trained_network
from onnx import numpy_helper

from kd_lightning.data.normalize import IMAGENET, Normalization
from kd_lightning.errors import UserError
from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.inference.onnx_predictor import OnnxPredictor, factor_and_offset, softmax


@pytest.mark.parametrize("kind", ["fp32", "inside"])
def test_probabilities_are_those_of_torch(request: pytest.FixtureRequest, kind: str) -> None:
    images = held_out_split()[0][:100]
    predictor = OnnxPredictor(request.getfixturevalue(kind), threads=1)
    assert (predictor.info, predictor.inside) == (info_of(trained_network()), kind == "inside")
    probabilities = predictor.probabilities(images.numpy())
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, torch_logits(trained_network(), images).softmax(1).numpy(), atol=1e-5)


def test_very_large_logits_have_finite_probabilities() -> None:
    probabilities = softmax(np.array([[1e4, 0, -1e4], [3e38, 3e38, 0]], np.float32))
    np.testing.assert_array_equal(probabilities, [[1, 0, 0], [0.5, 0.5, 0]])


def test_pixels_are_normalized_as_in_training() -> None:
    info = ModelInfo("LightNN", {}, tuple("abcde"), *IMAGENET, 16)
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)  # every value in every channel
    expected = Normalization(*IMAGENET).apply(torch.from_numpy(pixels).permute(0, 3, 1, 2)).numpy()
    factor, offset = factor_and_offset(info)
    np.testing.assert_allclose((pixels * factor + offset).transpose(0, 3, 1, 2), expected, rtol=0, atol=1e-6)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^there is no file .*none\.onnx; make one with `kd-lightning export`\.$"):
        OnnxPredictor(tmp_path / "none.onnx")


def test_a_damaged_file_is_named(fp32: Path, tmp_path: Path) -> None:
    content = fp32.read_bytes()
    (tmp_path / "cut.onnx").write_bytes(content[: len(content) // 3])
    with pytest.raises(UserError, match=r"cut\.onnx is damaged or needs a newer onnxruntime than .*; export it again"):
        OnnxPredictor(tmp_path / "cut.onnx")


def test_a_file_of_another_program_is_refused(fp32: Path, tmp_path: Path) -> None:
    model = onnx.load(fp32)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(UserError, match=r"foreign\.onnx names no classes"):
        OnnxPredictor(tmp_path / "foreign.onnx")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("class_names", '["0", "1"]'),
        ("mean", "[0.1, 0.1, 0.1]"),
        ("image_size", "16"),
        ("image_size", "1e9999"),
        ("arguments", "[" * 100_000),
        ("arguments", "no JSON"),
    ],
)
def test_a_files_metadata_are_compared_with_its_graph(fp32: Path, tmp_path: Path, name: str, value: str) -> None:
    model = onnx.load(fp32)
    onnx.helper.set_model_props(model, info_of(trained_network()).to_metadata() | {name: value})
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(UserError, match=r"the metadata of .*other\.onnx cannot be right \(.*\); export it again"):
        OnnxPredictor(tmp_path / "other.onnx")


def with_end(source: Path, target: Path, *nodes: onnx.NodeProto, **values: Any) -> Path:
    """Write a model with further nodes after its logits, which are now ``before``."""
    model = onnx.load(source)
    model.graph.node[-1].output[0] = "before"
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(numpy_helper.from_array(np.array(value), name) for name, value in values.items())
    onnx.save(model, target)
    return target


def test_outputs_of_another_shape_or_not_finite_are_refused(fp32: Path, tmp_path: Path) -> None:
    image, node = np.zeros((1, 8, 8, 1), np.uint8), onnx.helper.make_node
    twice = node("Concat", ["before", "before"], ["logits"], axis=0)
    with pytest.raises(UserError, match=r"twice\.onnx gives outputs of shape \(2, 10\) for 1 images and 10 classes"):
        OnnxPredictor(with_end(fp32, tmp_path / "twice.onnx", twice)).probabilities(image)
    root = [node("Abs", ["before"], ["a"]), node("Neg", ["a"], ["n"]), node("Sqrt", ["n"], ["logits"])]
    with pytest.raises(UserError, match=r"root\.onnx gives values that are not finite"):
        OnnxPredictor(with_end(fp32, tmp_path / "root.onnx", *root)).probabilities(image)


def test_a_graph_that_requests_more_memory_than_the_limit_is_stopped(fp32: Path, tmp_path: Path) -> None:
    node = onnx.helper.make_node
    large = [
        node("ConstantOfShape", ["shape"], ["large"]),
        node("ReduceMax", ["large"], ["small"], keepdims=0),
        node("Add", ["before", "small"], ["logits"]),
    ]
    path = with_end(fp32, tmp_path / "large.onnx", *large, shape=np.array([2**20, 2**20]))
    with pytest.raises(UserError, match=r"large\.onnx fails at 1 images"):
        OnnxPredictor(path, bounded=True).probabilities(np.zeros((1, 8, 8, 1), np.uint8))
    OnnxPredictor(fp32, bounded=True).probabilities(np.zeros((1, 8, 8, 1), np.uint8))
