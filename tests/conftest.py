"""Fixtures for all tests."""

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from recorded_graph import Captures

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # two cores are often shared; before torch is imported
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two processes test at once: more threads than cores wait


def pytest_collect_file() -> None:
    """Import Lightning before the tests do: typing keeps one order of `int | float`, which says what 1 is.

    Processes that only hand out tests to others do without these seconds.
    """
    import lightning.pytorch  # noqa: F401


@pytest.fixture(scope="session", autouse=True)
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A folder of caches for the tests alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("caches")))
        yield


@pytest.fixture(scope="session", autouse=True)
def whole_sentences() -> Iterator[None]:
    """Print sentences unbroken, so that tests can look for them; test_terminal.py tests how lines are broken."""
    from kd_lightning.machine import terminal

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(terminal, "columns", lambda: 10_000)
        yield


@pytest.fixture(scope="session", autouse=True)
def translations_read_once() -> Iterator[None]:
    """Keep what torch knows of ONNX: it reads thousands of translations again for every export, half of its time."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(cache(ONNXRegistry.from_torchlib)))
        yield


@pytest.fixture
def temp_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, with a command line that Lightning may look at."""
    folder = tmp_path / "temp_folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", ["kd_lightning"])
    return folder


@pytest.fixture
def captured_on_cpu(monkeypatch: pytest.MonkeyPatch) -> "Captures":
    """Take the way of a CUDA graph with captures that record a step on the CPU; return them."""
    from recorded_graph import Captures

    from kd_lightning.fast import callback  # torch reads what is set above

    captures = Captures()
    monkeypatch.setattr(callback, "is_gpu", lambda device: True)
    monkeypatch.setattr(callback, "capture_cuda", captures)
    return captures


@pytest.fixture
def plain_teacher(temp_folder: Path) -> None:
    """A teacher.yaml in the working directory, which comes before the shipped one, that exports nothing."""
    import yaml
    from training_example import CONFIG_FOLDER  # torch reads what is set above

    config = yaml.safe_load((CONFIG_FOLDER / "teacher.yaml").read_text())
    config["files"]["onnx"] = None
    Path("teacher.yaml").write_text(yaml.safe_dump(config))


@pytest.fixture(scope="session")
def fp32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network that knows the digits as an ONNX file, alone in its folder."""
    from export_example import info_of, trained_network

    from kd_lightning.export.onnx import export_onnx  # torch reads what is set above

    network = trained_network()
    path = tmp_path_factory.mktemp("fp32") / "student.onnx"
    export_onnx(network, info_of(network), path)
    return path


@pytest.fixture(scope="session")
def inside(fp32: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network with its preprocessing inside, which takes pixels."""
    import onnx
    from export_example import info_of, trained_network

    from kd_lightning.export.onnx import save  # torch reads what is set above
    from kd_lightning.export.preprocess import put_preprocessing_inside

    model, info = onnx.load(fp32), info_of(trained_network())
    put_preprocessing_inside(model, info)
    path = tmp_path_factory.mktemp("inside") / "student.onnx"
    save(model, info, path)
    return path
