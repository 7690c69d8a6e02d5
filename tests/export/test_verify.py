from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from export_example import held_out_split, info_of, torch_logits, trained_network
from onnx import numpy_helper

from kd_lightning.errors import UserError
from kd_lightning.export import ExportSettings
from kd_lightning.export.paired import Z, paired_interval
from kd_lightning.export.preprocess import put_preprocessing_inside
from kd_lightning.export.verify import (
    Measured,
    Reference,
    Variant,
    agreement,
    gate_failure,
    measure,
    torch_reference,
)

GOOD = Measured(difference=1e-6, agreement=1.0, accuracy=0.9, change=0.0)


@pytest.fixture(scope="module")
def reference() -> Reference:
    images, labels = held_out_split()
    network = trained_network()
    return torch_reference(network, info_of(network), images.numpy(), labels.numpy())


def made_up(count: int = 1000, scale: float = 1.0) -> Reference:
    """Logits of up to ``scale``; images and labels matter only by their number."""
    logits = np.zeros((count, 10), np.float32)
    logits[:, 0] = scale
    return Reference(np.zeros((count, 1, 1, 1), np.uint8), logits, np.zeros(count, np.int64))


def test_the_reference_has_the_logits_of_torch_even_where_training_chose_a_lower_precision(
    reference: Reference,
) -> None:
    images, labels = held_out_split()
    np.testing.assert_allclose(reference.logits, torch_logits(trained_network(), images).numpy(), atol=1e-4)
    network = trained_network().train()
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            again = torch_reference(network, info_of(network), images.numpy(), labels.numpy())
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(precision)
    np.testing.assert_allclose(again.logits, reference.logits, atol=1e-5)
    assert network.training


def test_a_true_file_agrees_with_torch(fp32: Path, reference: Reference) -> None:
    measured = measure(fp32, reference)
    assert measured.difference < 1e-4
    assert (measured.agreement, measured.change) == (1.0, 0.0)
    assert measured.accuracy == (reference.logits.argmax(axis=1) == held_out_split()[1].numpy()).mean()
    assert measured.interval is not None
    assert measured.interval == pytest.approx((-100 * Z**2 / (500 + Z**2), 100 * Z**2 / (500 + Z**2)))  # none differs
    assert gate_failure("fp32", measured, reference, ExportSettings()) is None


@pytest.mark.parametrize(
    ("images", "gained", "lost"), [(90, 0, 0), (90, 0, 1), (90, 2, 5), (5, 0, 5), (5, 5, 0), (1, 0, 0), (2000, 13, 22)]
)
def test_an_interval_holds_the_differences_whose_score_is_small(images: int, gained: int, lost: int) -> None:
    ours, theirs = np.zeros(images, np.bool_), np.zeros(images, np.bool_)
    ours[:gained], theirs[gained : gained + lost] = True, True
    low, high = paired_interval(ours, theirs)
    assert -1 <= low <= (gained - lost) / images <= high <= 1
    for end in (low, high):
        if abs(end) < 1:  # of all shares with that difference the likeliest puts the counts Z standard errors away
            shares = np.linspace(max(0, -end), min(1, (1 - end) / 2), 200_001)[1:-1]
            with np.errstate(divide="ignore", invalid="ignore"):
                likelihood = gained * np.log(shares + end) + lost * np.log(shares)
                likelihood += (images - gained - lost) * np.log(1 - 2 * shares - end)
            share = shares[np.nanargmax(likelihood)]
            error = np.sqrt((2 * share + end * (1 - end)) / images)
            assert abs((gained - lost) / images - end) / error == pytest.approx(Z, rel=2e-3)
    assert paired_interval(theirs, ours) == pytest.approx((-high, -low))


def test_a_file_of_other_weights_or_normalization_fails_the_parity_gate(
    fp32: Path, reference: Reference, tmp_path: Path
) -> None:
    model = onnx.load(fp32)
    [bias] = [tensor for tensor in model.graph.initializer if tensor.name == "classifier.3.bias"]
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.float32(0.001), bias.name))
    onnx.save(model, tmp_path / "other.onnx")
    failure = gate_failure("fp32", measure(tmp_path / "other.onnx", reference), reference, ExportSettings())
    assert failure is not None
    assert failure.startswith("its outputs differ from torch's by up to 1.0e-03, allowed are")
    model = onnx.load(fp32)
    put_preprocessing_inside(model, replace(info_of(trained_network()), mean=(0.31,)))
    onnx.save(model, tmp_path / "other.onnx")
    failure = gate_failure("fp32", measure(tmp_path / "other.onnx", reference), reference, ExportSettings())
    assert failure is not None
    assert "differ from torch's" in failure


def test_without_labels_a_file_is_compared_but_not_scored(fp32: Path, reference: Reference) -> None:
    measured = measure(fp32, replace(reference, labels=None))
    assert (measured.accuracy, measured.change, measured.agreement) == (None, None, 1.0)
    assert gate_failure("dynamic", measured, reference, ExportSettings()) is None


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_file_truncated_after_writing_is_called_damaged(
    fp32: Path, reference: Reference, tmp_path: Path, share: float
) -> None:
    content = fp32.read_bytes()
    (tmp_path / "cut.onnx").write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=r"cut\.onnx is damaged or not an ONNX file"):
        measure(tmp_path / "cut.onnx", reference)


def test_of_classes_that_tie_in_torch_either_label_counts() -> None:
    expected = np.array([[1.0, 1.00001, 0.0], [1.0, 0.9, 0.0]], np.float32)
    assert agreement(np.array([[1.0, 0.99999, 0.0], [1.0, 0.9, 0.0]], np.float32), expected) == 1.0
    assert agreement(np.array([[0.0, 0.0, 1.0], [1.0, 0.9, 0.0]], np.float32), expected) == 0.5
    assert agreement(np.array([[0.9, 1.0, 0.0], [0.9, 1.0, 0.0]], np.float32), expected) == 0.5


@pytest.mark.parametrize(
    ("variant", "change", "wrong"),
    [
        ("fp32", {"difference": 1.1e-4}, "1.1e-04, allowed are 1.0e-04"),
        ("fp32", {"agreement": 0.999}, "only 99.90 % of the images get torch's label"),
        ("fp32", {"difference": float("nan")}, "values that are not finite"),
        ("dynamic", {"change": -0.51}, "loses 0.51 points of top-1 accuracy, allowed are 0.50; try static"),
        ("static", {"change": -9.4}, "loses 9.40 points of top-1 accuracy, allowed are 0.50; try reduce_range"),
        ("fp16", {"change": -0.2}, "loses 0.20 points of top-1 accuracy, allowed are 0.10; try fp32"),
        ("fp32", {"difference": 0.9e-4}, None),
        ("static", {"difference": 3.0, "agreement": 0.97, "change": -0.5}, None),
        ("fp16", {"difference": 0.01, "agreement": 0.999, "change": -0.1}, None),
    ],
)
def test_a_failed_gate_names_the_figure_and_what_to_try(
    variant: Variant, change: dict[str, Any], wrong: str | None
) -> None:
    failure = gate_failure(variant, replace(GOOD, **change), made_up(), ExportSettings())
    assert (failure is None) if wrong is None else (failure is not None and wrong in failure)


def test_the_allowed_drop_is_settable_and_one_image_is_always_allowed() -> None:
    drop = replace(GOOD, change=-2.0)
    assert gate_failure("static", drop, made_up(), ExportSettings(max_drop=2.0)) is None
    assert gate_failure("static", drop, made_up(), ExportSettings(max_drop=1.9)) is not None
    assert gate_failure("static", drop, made_up(count=50), ExportSettings()) is None
    assert gate_failure("static", drop, made_up(count=51), ExportSettings()) is not None


def test_logits_that_float32_cannot_hold_to_the_gate_are_allowed_its_rounding() -> None:
    rounded = replace(GOOD, difference=5e-4)
    assert gate_failure("fp32", rounded, made_up(scale=10.0), ExportSettings()) is not None
    assert gate_failure("fp32", rounded, made_up(scale=100.0), ExportSettings()) is None
