"""Fixtures for all tests."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # two cores are often shared; before torch is imported


@pytest.fixture(scope="session", autouse=True)
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A folder of caches for the tests alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("caches")))
        yield


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, with a command line that Lightning may look at."""
    folder = tmp_path / "workplace"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", ["kd_lightning"])
    return folder


@pytest.fixture
def captured_on_cpu(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Take the way of a CUDA graph with a capture that repeats the step in Python; return how often it was replayed.

    As in a graph, the optimizer's settings are what they were at the capture, but for those that lie in tensors.
    """
    replays: list[int] = []

    def capture(function: Any) -> Callable[[], None]:
        groups = function.__self__.step.optimizer.param_groups
        captured = [dict(group) for group in groups]

        def replay() -> None:
            replays.append(1)
            now = [dict(group) for group in groups]
            for group, settings in zip(groups, captured, strict=True):
                group.update(settings)
            function()
            for group, settings in zip(groups, now, strict=True):
                group.update(settings)

        return replay

    from kd_lightning.fast import start as fast_start  # torch reads what is set above

    monkeypatch.setattr(fast_start, "why_not_captured", lambda task: None)
    monkeypatch.setattr(fast_start, "capture_cuda", capture)
    return replays
