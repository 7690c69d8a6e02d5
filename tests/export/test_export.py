import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from export_example import (
    VARIANTS,
    held_out_split,
    info_of,
    normalized,
    sensitive_network,
    torch_logits,
    train_split,
    trained_network,
)
from torch import Tensor

from kd_lightning.errors import UserError
from kd_lightning.export import (
    ExportReport,
    ExportSettings,
    GateError,
    QuantizationSettings,
    Row,
    export_variants,
    speed,
)
from kd_lightning.export.onnx import export_onnx
from kd_lightning.export.speed import Speed
from kd_lightning.export.verify import Measured, Variant
from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.networks import Network

NAMES: dict[Variant, str] = {variant: f"student.{variant}.onnx" for variant in VARIANTS}
LENIENT = ExportSettings(max_drop=3.0, measure_speed=False)


class Branching(Network):
    """Cannot be exported: its control flow depends on the values."""

    def forward(self, images: Tensor) -> Tensor:
        return (images if images.sum() > 0 else -images).flatten(1)[:, : self.num_classes]


def run(path: Path, inputs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    session = onnxruntime.InferenceSession(path)
    result: np.ndarray[Any, Any] = session.run(None, {session.get_inputs()[0].name: inputs})[0]
    return result


@pytest.fixture(scope="module", params=["outside", "inside"])
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    """All variants of one network, with the preprocessing outside and inside."""
    network, settings = trained_network(), replace(LENIENT, preprocess=request.param)
    splits: dict[str, Any] = {"train": train_split(), "test": held_out_split()}
    folder = tmp_path_factory.mktemp("files")
    return export_variants(network, info_of(network), folder, NAMES, settings=settings, **splits)


@pytest.mark.parametrize("size", [1, 7])
def test_a_file_takes_batches_of_any_size_and_gives_torchs_logits_or_from_pixels_probabilities(
    report: ExportReport, size: int
) -> None:
    network, images, path = trained_network(), held_out_split()[0][:size], report.rows[0].path
    logits = torch_logits(network, images)
    if onnx.load(path).graph.input[0].name == "pixels":
        np.testing.assert_allclose(run(path, images.numpy()), logits.softmax(1).numpy(), atol=1e-5)
    else:
        np.testing.assert_allclose(run(path, normalized(network, images).numpy()), logits.numpy(), atol=1e-4)


def test_an_export_prints_nothing_and_leaves_the_network_as_it_was(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    network = trained_network().train()
    network.features.eval()
    network.classifier[0].weight.requires_grad_(False)
    modes = [module.training for module in network.modules()]
    state = {name: value.clone() for name, value in network.state_dict().items()}
    export_onnx(network, info_of(network), tmp_path / "student.onnx")
    assert capfd.readouterr() == ("", "")
    assert [module.training for module in network.modules()] == modes
    assert [weight.requires_grad for weight in network.parameters()].count(False) == 1
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    kinds = {node.op_type for node in onnx.load(tmp_path / "student.onnx").graph.node}
    assert kinds == {"Conv", "Relu", "MaxPool", "Reshape", "Gemm"}  # its dropout is dropped


def test_an_export_is_one_file_with_metadata_and_the_names_of_layers_and_nothing_about_the_machine(fp32: Path) -> None:
    model = onnx.load(fp32)
    assert ModelInfo.from_metadata({item.key: item.value for item in model.metadata_props}) == info_of(
        trained_network()
    )
    assert model.producer_name == "pytorch"
    assert model.producer_version == torch.__version__
    assert [opset.version for opset in model.opset_import if opset.domain == ""] == [18]
    assert list(fp32.parent.iterdir()) == [fp32]
    content = fp32.read_bytes()
    assert os.fsencode(Path(__file__).parents[2]) not in content
    assert b"stack_trace" not in content
    assert b'.py"' not in content
    names = [node.name for node in model.graph.node if node.op_type in {"Conv", "Gemm"}]
    assert names == ["features.0", "features.3", "classifier.0", "classifier.3"]


def test_a_network_that_cannot_be_exported_is_named_in_one_sentence_with_the_reason(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    network = Branching(10, 1, 8)
    with pytest.raises(UserError, match=r"^Branching cannot be exported to ONNX \(.*data-dependent") as caught:
        export_onnx(network, info_of(network), tmp_path / "student.onnx")
    assert str(caught.value).endswith("; write its forward in tensor operations.")
    assert capfd.readouterr() == ("", "")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_every_variant_is_written_with_its_own_accuracy_and_for_old_runtimes(report: ExportReport) -> None:
    folder = report.rows[0].path.parent
    assert sorted(path.name for path in folder.iterdir()) == sorted(NAMES.values())
    for row in report.rows:
        model = onnx.load(row.path)
        stored = {item.key: item.value for item in model.metadata_props}
        expected = replace(info_of(trained_network()), accuracy=row.measured.accuracy)
        assert ModelInfo.from_metadata(stored) == expected
        assert (model.ir_version, [(opset.domain, opset.version) for opset in model.opset_import]) == (8, [("", 18)])
        assert row.size == row.path.stat().st_size
        assert row.measured.accuracy is not None
        assert row.measured.accuracy > 0.85
    assert [row.calibrated_on for row in report.rows] == [None, None, 512, None]
    assert [row.smaller > 1.8 for row in report.rows] == [False, True, True, True]
    assert "The files load in onnxruntime 1.15 and later." in report.to_text()
    assert report.to_plain()["oldest_onnxruntime"] == "1.15"


def test_a_file_that_fails_its_gate_is_set_aside_and_the_others_are_kept(tmp_path: Path) -> None:
    names: dict[Variant, str] = {"fp32": "a.onnx", "dynamic": "b.onnx", "fp16": "c.onnx"}
    arguments: dict[str, Any] = {"train": None, "test": held_out_split(), "settings": LENIENT}
    network = sensitive_network()
    with pytest.raises(
        GateError, match=r"^b\.rejected\.onnx fails its gate: it loses \d+\.\d\d points .* try "
    ) as caught:
        export_variants(network, info_of(network), tmp_path, names, **arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "b.rejected.onnx", "c.onnx"]
    assert [row.failure is None for row in caught.value.report.rows] == [True, False, True]
    export_variants(trained_network(), info_of(network), tmp_path, names, **arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "b.onnx", "c.onnx"]


def test_static_without_training_images_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    network = trained_network()
    with pytest.raises(UserError, match=r"static needs training images .* give --data"):
        export_variants(network, info_of(network), tmp_path, NAMES, train=None, test=None)
    none = ExportSettings(quantization=QuantizationSettings(calibration_images=0))
    with pytest.raises(UserError, match=r"cannot draw 0 calibration images from 1297; give 512"):
        export_variants(network, info_of(network), tmp_path, NAMES, train=train_split(), test=None, settings=none)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_ends_in_one_sentence_with_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_half(model: onnx.ModelProto, path: Path) -> None:
        Path(path).write_bytes(model.SerializeToString()[:1000])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(onnx, "save", write_half)
    network = trained_network()
    with pytest.raises(
        UserError, match=r"cannot write .*: No space left on device; free space or choose another folder\.$"
    ):
        export_variants(network, info_of(network), tmp_path, {"fp32": "a.onnx"}, train=None, test=None)
    assert not list(tmp_path.iterdir())


def make_row(name: str, size: int, ratio: float, failure: str | None = None) -> Row:
    measured = Measured(difference=1e-6, agreement=1.0, accuracy=0.9, change=-0.1)
    timed = None if failure else Speed(1.0, 2.0, 100.0, ratio, ratio)
    variant: Variant = "fp32" if name == "fp32" else "static"
    return Row(variant, Path(f"{name}.onnx"), size, 100 / size, measured, (), failure, False, timed)


def test_a_report_notes_where_images_are_too_few_to_calibrate_or_for_the_gate() -> None:
    row = make_row("static", 25, 2.0)
    measured = replace(row.measured, interval=(-2.5, 1.0))
    few = ExportReport([replace(row, measured=measured, calibrated_on=6, max_drop=2.0)])
    notes = [
        "static.onnx may lose up to 2.50 points on other images like these (95 % confidence): they are too few to see "
        "a drop of 2.00.",
        "static.onnx was calibrated on 6 training images, and 100 or more are usual.",
    ]
    assert few.notes() == notes
    assert all(note in few.to_markdown() for note in notes)
    assert ExportReport([replace(row, measured=measured, calibrated_on=100, max_drop=3.0)]).notes() == []


def test_the_fastest_good_file_is_recommended_and_of_equally_fast_ones_the_smallest() -> None:
    report = ExportReport([make_row("fp32", 100, 1.0), make_row("int8", 25, 0.6), make_row("fp16", 50, 0.99)])
    assert report.recommendation.startswith("For this machine: fp16.onnx, 0.99 times fp32's speed for one image")
    report = ExportReport(
        [make_row("fp32", 100, 1.0), make_row("int8", 25, 1.8), make_row("bad", 20, 9.0, "it is bad")]
    )
    assert report.recommendation.startswith("For this machine: int8.onnx, 1.80 times")
    assert ExportReport([make_row("bad", 20, 9.0, "it is bad")]).recommendation == ""


def test_a_file_that_is_neither_smaller_nor_faster_is_never_recommended() -> None:
    fp32 = make_row("fp32", 100, 1.0)
    equal = ExportReport([fp32, make_row("int8", 99, 1.02)])
    assert equal.recommendation == "For this machine: fp32.onnx, because no other file is faster."
    slower = ExportReport([fp32, make_row("int8", 25, 0.6)])
    assert slower.recommendation == (
        "For this machine: fp32.onnx, because no other file is faster; int8.onnx is 0.60 times fp32's speed for one "
        "image (0.60 in batches of 64), 4.0 times smaller, -0.10 points of accuracy."
    )
    assert ExportReport([fp32]).recommendation == ExportReport([make_row("int8", 101, 1.0)]).recommendation == ""


def test_a_report_is_shown_as_text_and_markdown_and_kept_as_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "ROUNDS", 1)
    network = trained_network()
    settings = replace(LENIENT, measure_speed=True)
    names: dict[Variant, str] = {"fp32": "a.onnx", "fp16": "b.onnx"}
    arguments: dict[str, Any] = {"train": None, "test": held_out_split(), "settings": settings}
    report = export_variants(network, info_of(network), tmp_path, names, **arguments)
    plain = json.loads(json.dumps(report.to_plain()))
    assert [row["variant"] for row in plain["rows"]] == ["fp32", "fp16"]
    assert plain["rows"][0]["speed"]["ratio"] == 1.0
    assert 0 < plain["rows"][1]["speed"]["median_ms"] <= plain["rows"][1]["speed"]["p95_ms"]
    for shown in (report.to_text(), report.to_markdown()):
        assert "b.onnx" in shown
        assert report.machine in shown
        assert "For this machine:" in shown
