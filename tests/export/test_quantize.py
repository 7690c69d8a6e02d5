from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from export_example import held_out_split, info_of, normalized, sensitive_network, train_split, trained_network
from onnx import TensorProto, numpy_helper
from torch import Tensor, nn

from kd_lightning.export import ExportReport, ExportSettings, GateError, QuantizationSettings, export_variants
from kd_lightning.export.quantize import convert_fp16, may_saturate, quantize_dynamic, quantize_static
from kd_lightning.export.verify import normalized_batches
from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.machine import cpu
from kd_lightning.networks import Network


class Saturating(Network):
    """Two classes whose logits are exact in int8, unless sums of two products are cut off at 16 bits.

    A white image gives class 0 the sum of all its pixels; with sums cut off about half of it, which is less than the
    0.7 of them that class 1 gets from every other pixel and its bias.
    """

    def __init__(self, num_classes: int = 2, in_channels: int = 1, image_size: int = 8) -> None:
        super().__init__(num_classes, in_channels, image_size)
        self.head = nn.Linear(64, 2)
        with torch.no_grad():
            self.head.weight.copy_(torch.stack([torch.ones(64), torch.tensor([1.0, 0.0]).repeat(32)]))
            self.head.bias.copy_(torch.tensor([0.0, 0.2 * 64]))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(images.flatten(1))  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def calibration() -> list[np.ndarray[Any, Any]]:
    return normalized_batches(train_split()[0][:256].numpy(), info_of(trained_network()))


def logits(path: Path, images: Tensor) -> np.ndarray[Any, Any]:
    inputs = normalized(trained_network(), images).numpy()
    result: np.ndarray[Any, Any] = onnxruntime.InferenceSession(path).run(None, {"images": inputs})[0]
    return result


def kinds(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def weights(path: Path, data_type: int) -> list[np.ndarray[Any, Any]]:
    tensors = [tensor for tensor in onnx.load(path).graph.initializer if tensor.data_type == data_type]
    return [value for value in map(numpy_helper.to_array, tensors) if value.ndim > 1]


def test_dynamic_quantizes_the_linear_layers_with_unsigned_weights_and_all_on_request(
    fp32: Path, tmp_path: Path
) -> None:
    quantize_dynamic(fp32, tmp_path / "dynamic.onnx")
    found = kinds(tmp_path / "dynamic.onnx")
    assert (found["MatMulInteger"], found["Gemm"], found["Conv"], found["ConvInteger"]) == (2, 0, 2, 0)
    assert len(weights(tmp_path / "dynamic.onnx", TensorProto.UINT8)) == 2
    assert weights(tmp_path / "dynamic.onnx", TensorProto.INT8) == []

    quantize_dynamic(fp32, tmp_path / "all.onnx", layers="all")
    assert kinds(tmp_path / "all.onnx")["ConvInteger"] == 2


@pytest.mark.parametrize(("reduce_range", "largest"), [(True, 64), (False, 127)])
def test_static_has_signed_weights_of_seven_or_eight_bits_per_channel(
    fp32: Path, calibration: list[np.ndarray[Any, Any]], tmp_path: Path, reduce_range: bool, largest: int
) -> None:
    quantize_static(fp32, tmp_path / "static.onnx", calibration, reduce_range=reduce_range)
    found = weights(tmp_path / "static.onnx", TensorProto.INT8)
    assert len(found) == 4
    for weight in found:  # (out, in, ...): the largest value of every channel uses the whole range
        by_channel = np.abs(weight.astype(int)).reshape(len(weight), -1).max(axis=1)
        assert by_channel.min() >= largest - 1
        assert by_channel.max() <= largest + 1
    assert may_saturate(tmp_path / "static.onnx") is not reduce_range
    images = held_out_split()[0][:20]  # an image has the same logits whatever its neighbours
    together, single = logits(tmp_path / "static.onnx", images), logits(tmp_path / "static.onnx", images[3:4])
    np.testing.assert_array_equal(together[3:4], single)


def test_fp16_halves_the_file_and_keeps_float32_inputs_and_outputs(fp32: Path, tmp_path: Path) -> None:
    convert_fp16(fp32, tmp_path / "half.onnx")
    assert (tmp_path / "half.onnx").stat().st_size < 0.55 * fp32.stat().st_size
    session = onnxruntime.InferenceSession(tmp_path / "half.onnx")
    assert [tensor.type for tensor in (*session.get_inputs(), *session.get_outputs())] == ["tensor(float)"] * 2
    images = held_out_split()[0]
    assert np.abs(logits(tmp_path / "half.onnx", images) - logits(fp32, images)).max() < 0.05


def export_saturating(folder: Path, reduce_range: bool) -> ExportReport:
    """Export the saturating network; half of the images are white (class 0), half black (class 1)."""
    images = torch.tensor([255, 0], dtype=torch.uint8).repeat(20)[:, None, None, None].expand(40, 8, 8, 1)
    labels = torch.tensor([0, 1]).repeat(20)
    network = Saturating()
    info = ModelInfo("Saturating", network.arguments, ("white", "black"), (0.0,), (1.0,), 8)
    settings = ExportSettings(quantization=QuantizationSettings(reduce_range=reduce_range), measure_speed=False)
    split = images, labels
    return export_variants(network, info, folder, {"static": "s.onnx"}, train=split, test=split, settings=settings)


def test_sums_that_saturate_on_this_cpu_are_caught_by_the_gate(tmp_path: Path) -> None:
    if cpu.needs_reduce_range():
        with pytest.raises(GateError, match=r"it loses 50\.00 points of top-1 accuracy.*try reduce_range"):
            export_saturating(tmp_path, reduce_range=False)
    else:  # here they do not saturate, and the report notes where they would
        report = export_saturating(tmp_path, reduce_range=False)
        assert report.rows[0].measured.accuracy == 1
        assert (
            "s.onnx may lose accuracy on CPUs with AVX2 but without VNNI; reduce_range prevents it." in report.notes()
        )


def test_sums_of_a_reduced_range_saturate_nowhere(tmp_path: Path) -> None:
    report = export_saturating(tmp_path, reduce_range=True)
    assert report.rows[0].measured.accuracy == 1
    weight = weights(tmp_path / "s.onnx", TensorProto.INT8)[0].astype(int)
    assert 255 * np.abs(weight[:, ::2] + weight[:, 1::2]).max() <= np.iinfo(np.int16).max
    assert not may_saturate(tmp_path / "s.onnx")


@pytest.mark.parametrize(
    ("machine", "flags", "needed"),
    [
        ("x86_64", {"avx2"}, True),
        ("x86_64", {"avx2", "avx512_vnni"}, False),
        ("AMD64", set(), True),
        ("arm64", set(), False),
    ],
)
def test_the_range_is_reduced_where_a_cpu_saturates_or_is_unknown(
    monkeypatch: pytest.MonkeyPatch, machine: str, flags: set[str], needed: bool
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(cpu, "cpu_flags", lambda: flags)
    assert cpu.needs_reduce_range() is needed
    assert QuantizationSettings(reduce_range="auto").reduces_range is needed
    assert QuantizationSettings().reduces_range


def test_a_layer_made_sensitive_is_kept_in_float_and_named(tmp_path: Path) -> None:
    network = sensitive_network()
    settings = ExportSettings(measure_speed=False)
    arguments: dict[str, Any] = {"train": train_split(), "test": held_out_split(), "settings": settings}
    report = export_variants(network, info_of(network), tmp_path, {"static": "s.onnx"}, **arguments)
    assert report.rows[0].float_layers == ("classifier.3",)
    assert report.rows[0].measured.change is not None
    assert report.rows[0].measured.change >= -0.5
    assert report.notes()[0] == "s.onnx keeps classifier.3 in float, for its accuracy."
    assert len(weights(tmp_path / "s.onnx", TensorProto.INT8)) == 3
    assert [weight.shape for weight in weights(tmp_path / "s.onnx", TensorProto.FLOAT)] == [(10, 256)]
