"""JSON that every program reads: Python's own writes bare ``NaN`` and ``Infinity``, which JSON lacks."""

import json
from math import isfinite
from typing import Any


def strict_json(values: Any, indent: int | None = None) -> str:
    """Return plain values (dicts, lists, strings, numbers) as JSON; numbers that are not finite become ``null``."""
    return json.dumps(_finite(values), indent=indent, allow_nan=False)


def _finite(values: Any) -> Any:
    if isinstance(values, dict):
        return {key: _finite(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_finite(value) for value in values]
    return None if isinstance(values, float) and not isfinite(values) else values
