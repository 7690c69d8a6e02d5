from dataclasses import replace
from typing import Any

import pytest

from kd_lightning.inference.model_info import ModelInfo

GOOD = ModelInfo("my.Net", {"num_classes": 2, "name": "ä"}, ("cat", "dog"), (0.1,) * 3, (0.2,) * 3, 32, "x", 0.5)


def test_metadata_survive_a_round_trip() -> None:
    assert ModelInfo.from_plain(GOOD.to_plain()) == GOOD
    assert ModelInfo.from_metadata(GOOD.to_metadata()) == GOOD
    wide = replace(GOOD, pixel_range=(0.0, 4095.0))
    assert ModelInfo.from_plain(wide.to_plain()) == ModelInfo.from_metadata(wide.to_metadata()) == wide


def test_a_file_without_a_range_was_trained_on_eight_bits() -> None:
    values = GOOD.to_plain()
    del values["pixel_range"]
    assert ModelInfo.from_plain(values).pixel_range is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("network", "net\x1b[1m"),
        ("arguments", [1]),
        ("arguments", {"num_classes": 3}),
        ("arguments", {"width": float("nan")}),
        ("arguments", {"width": "w" * 2000}),
        ("class_names", ["cat"]),
        ("class_names", ["cat", "\ud800"]),
        ("mean", [0.1, 0.1]),
        ("mean", [float("nan")] * 3),
        ("std", [0.0] * 3),
        ("std", [10**400] * 3),
        ("image_size", 10**9),
        ("image_size", True),
        ("accuracy", 1.5),
        ("data", ["x"]),
        ("pixel_range", [0]),
        ("pixel_range", [0, float("inf")]),
    ],
)
def test_impossible_values_are_refused(name: str, value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        ModelInfo.from_plain({**GOOD.to_plain(), name: value})


def test_metadata_nested_without_end_are_refused() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        ModelInfo.from_metadata(GOOD.to_metadata() | {"arguments": "[" * 100_000})
