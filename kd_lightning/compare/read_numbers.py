"""Checks of a run's numbers when it is read from a file."""

import math
from collections.abc import Callable
from typing import Any


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError(f"{str(value)[:40]} is not a whole number from 0 on")
    return value


def _size(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value < math.inf:
        raise ValueError(f"{str(value)[:40]} is not a finite number from 0 on")
    return float(value)


READ_AS: dict[str, Callable[[Any], float | None]] = {
    **dict.fromkeys(("seed", "parameters", "multiply_adds"), _whole),
    "training_seconds": _size,
    "onnx_bytes": lambda value: None if value is None else _whole(value),
    **dict.fromkeys(
        ("teacher_agreement", "teacher_accuracy", "latency_ms"), lambda value: None if value is None else _size(value)
    ),
}
"""How each number is read; raises ``ValueError`` for any other value."""
