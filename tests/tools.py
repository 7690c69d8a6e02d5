"""Programs and packages that some tests need and Python's own tools do not bring."""

import os
from typing import NoReturn

import pytest


def missing(tool: str) -> NoReturn:
    """Skip a test for want of a tool; in CI, which brings them all, it fails."""
    if os.environ.get("CI"):
        pytest.fail(f"there is no {tool}, and `.ci/run` brings it")
    pytest.skip(f"there is no {tool}")
