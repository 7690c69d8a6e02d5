import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from difficult_images import write_difficult_images
from export_example import held_out_split, info_of, torch_logits, trained_network
from onnx import numpy_helper

from kd_lightning.data.normalize import Normalization
from kd_lightning.errors import UserError
from kd_lightning.export.onnx import export_onnx
from kd_lightning.export.preprocess import put_preprocessing_inside
from kd_lightning.inference.images import FULL_RANGE, BrokenImageError, read_image
from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.inference.onnx_predictor import OnnxPredictor, softmax
from kd_lightning.networks import LightNN


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One network twice, with its preprocessing outside and inside."""
    folder, network = tmp_path_factory.mktemp("files"), trained_network()
    files = {"outside": folder / "outside.onnx", "inside": folder / "inside.onnx"}
    export_onnx(network, info_of(network), files["outside"])
    model = onnx.load(files["outside"])
    put_preprocessing_inside(model, info_of(network))
    onnx.save(model, files["inside"])
    return files


@pytest.fixture(scope="module")
def colour(tmp_path_factory: pytest.TempPathFactory) -> tuple[LightNN, ModelInfo, OnnxPredictor]:
    """An untrained network for colour images and its file."""
    network = LightNN(num_classes=5, image_size=16)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    info = ModelInfo("LightNN", network.arguments, tuple("abcde"), mean, std, 16, pixel_range=FULL_RANGE)
    path = tmp_path_factory.mktemp("colour") / "student.onnx"
    export_onnx(network, info, path)
    return network.eval(), info, OnnxPredictor(path)


@pytest.mark.parametrize("kind", ["outside", "inside"])
def test_probabilities_are_those_of_torch(files: dict[str, Path], kind: str) -> None:
    images = held_out_split()[0][:100]
    probabilities = OnnxPredictor(files[kind], threads=1).probabilities(images.numpy())
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, torch_logits(trained_network(), images).softmax(1).numpy(), atol=1e-5)


def test_a_predictor_reads_from_the_file_what_the_network_needs(files: dict[str, Path]) -> None:
    predictor = OnnxPredictor(files["inside"])
    assert predictor.info == info_of(trained_network())
    assert predictor.inside
    assert not OnnxPredictor(files["outside"]).inside


def test_the_likeliest_labels_come_first(files: dict[str, Path]) -> None:
    predictor, images = OnnxPredictor(files["outside"]), held_out_split()[0][:30].numpy()
    probabilities = predictor.probabilities(images)
    for labels, row in zip(predictor.labels(images, top=3), probabilities, strict=True):
        assert [label.probability for label in labels] == sorted(row.tolist(), reverse=True)[:3]
        assert [row[int(label.name)] for label in labels] == [label.probability for label in labels]
    assert [len(labels) for labels in predictor.labels(images, top=99)] == [10] * 30


def test_very_large_logits_have_finite_probabilities() -> None:
    probabilities = softmax(np.array([[1e4, 0, -1e4], [3e38, 3e38, 0]], np.float32))
    np.testing.assert_array_equal(probabilities, [[1, 0, 0], [0.5, 0.5, 0]])


def test_pixels_are_normalized_as_in_training(colour: tuple[LightNN, ModelInfo, OnnxPredictor]) -> None:
    _, info, predictor = colour
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)  # every value in every channel
    expected = Normalization(info.mean, info.std).apply(torch.from_numpy(pixels).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(predictor._normalized(pixels), expected, rtol=0, atol=1e-6)


def test_difficult_image_files_get_the_labels_that_torch_gives(
    colour: tuple[LightNN, ModelInfo, OnnxPredictor], tmp_path: Path
) -> None:
    network, info, predictor = colour
    good, broken = write_difficult_images(tmp_path / "images")
    for path in good:
        pixels = predictor.read(path)
        np.testing.assert_array_equal(pixels, read_image(path, 16, pixel_range=FULL_RANGE))
        with torch.inference_mode():
            images = torch.from_numpy(pixels[None]).permute(0, 3, 1, 2)
            expected = network(Normalization(info.mean, info.std).apply(images))[0].softmax(0)
        [label] = predictor.labels(pixels[None])[0]
        assert label.name == info.class_names[int(expected.argmax())]
        assert label.probability == pytest.approx(float(expected.max()), abs=1e-5)
    for path in broken:
        with pytest.raises(BrokenImageError):
            predictor.read(path)


def test_prediction_loads_neither_torch_nor_lightning_nor_onnx(files: dict[str, Path]) -> None:
    program = """
import sys
import numpy as np
from kd_lightning.inference.onnx_predictor import OnnxPredictor, softmax
print(OnnxPredictor(sys.argv[1]).labels(np.zeros((1, 8, 8, 1), np.uint8))[0][0].name)
print([name for name in ("torch", "lightning", "onnx", "torchvision", "rich") if name in sys.modules])
"""
    command = [sys.executable, "-c", program, str(files["outside"])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    label, loaded = done.stdout.splitlines()
    assert label == str(int(torch_logits(trained_network(), torch.zeros(1, 8, 8, 1, dtype=torch.uint8)).argmax()))
    assert loaded == "[]"
    assert done.stderr == ""


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^there is no file .*none\.onnx; make one with `python -m .* export`\.$"):
        OnnxPredictor(tmp_path / "none.onnx")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_damaged_file_is_named(files: dict[str, Path], tmp_path: Path, share: float) -> None:
    content = files["outside"].read_bytes()
    (tmp_path / "cut.onnx").write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=r"cut\.onnx is damaged or needs a newer onnxruntime than .*; export it again"):
        OnnxPredictor(tmp_path / "cut.onnx")


def test_a_file_of_another_program_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    model = onnx.load(files["outside"])
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(UserError, match=r"foreign\.onnx names no classes"):
        OnnxPredictor(tmp_path / "foreign.onnx")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("class_names", '["0", "1"]'),
        ("class_names", '["\\ud800", "1", "2", "3", "4", "5", "6", "7", "8", "9"]'),
        ("std", "0.5"),
        ("std", "[0]"),
        ("mean", "[NaN]"),
        ("mean", "[0.1, 0.1, 0.1]"),
        ("image_size", "16"),
        ("image_size", "1e9999"),
        ("image_size", "1000000000"),
        ("arguments", "[" * 100_000),
        ("arguments", "no JSON"),
    ],
)
def test_a_files_metadata_are_compared_with_its_graph(
    files: dict[str, Path], tmp_path: Path, name: str, value: str
) -> None:
    model = onnx.load(files["outside"])
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


def test_outputs_of_another_shape_or_not_finite_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    image, node = np.zeros((1, 8, 8, 1), np.uint8), onnx.helper.make_node
    twice = node("Concat", ["before", "before"], ["logits"], axis=0)
    with pytest.raises(UserError, match=r"twice\.onnx gives outputs of shape \(2, 10\) for 1 images and 10 classes"):
        OnnxPredictor(with_end(files["outside"], tmp_path / "twice.onnx", twice)).probabilities(image)
    root = [node("Abs", ["before"], ["a"]), node("Neg", ["a"], ["n"]), node("Sqrt", ["n"], ["logits"])]
    with pytest.raises(UserError, match=r"root\.onnx gives values that are not finite"):
        OnnxPredictor(with_end(files["outside"], tmp_path / "root.onnx", *root)).probabilities(image)


def test_a_graph_that_requests_more_memory_than_the_limit_is_stopped(files: dict[str, Path], tmp_path: Path) -> None:
    node = onnx.helper.make_node
    large = [
        node("ConstantOfShape", ["shape"], ["large"]),
        node("ReduceMax", ["large"], ["small"], keepdims=0),
        node("Add", ["before", "small"], ["logits"]),
    ]
    path = with_end(files["outside"], tmp_path / "large.onnx", *large, shape=np.array([2**20, 2**20]))
    with pytest.raises(UserError, match=r"large\.onnx fails at 1 images"):
        OnnxPredictor(path, bounded=True).probabilities(np.zeros((1, 8, 8, 1), np.uint8))
    OnnxPredictor(files["outside"], bounded=True).probabilities(np.zeros((1, 8, 8, 1), np.uint8))
