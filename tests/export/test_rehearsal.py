"""An export is rehearsed before training, unless the same rehearsal succeeded before."""

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx
import pytest
from export_example import VARIANTS, AlwaysDropping, info_of, trained_network

from kd_lightning.errors import UserError
from kd_lightning.export import ExportSettings, rehearsal, rehearse_export
from kd_lightning.networks import LightNN, Network

OWN = "from own_helper import SIZE\nfrom kd_lightning.networks import LightNN\n\n\nclass OwnNN(LightNN):\n    pass\n"


@pytest.fixture(autouse=True)
def no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Callable[..., bool]:
    """Start to rehearse; return whether a rehearsal, which does nothing here, ran."""
    counted: list[int] = []
    monkeypatch.setattr(rehearsal, "_rehearse", lambda *_: counted.append(1))

    def start(network: Network | None = None, size: int = 8, **options: Any) -> bool:
        before, network = len(counted), network or LightNN(image_size=size)
        rehearse_export(network, info_of(network), **{"variants": ["fp32"], **options})
        return len(counted) > before

    return start


def test_a_network_that_can_be_exported_passes() -> None:
    network = trained_network()
    rehearse_export(network, info_of(network), VARIANTS)


def test_a_network_that_cannot_be_exported_is_found_every_time() -> None:
    network = AlwaysDropping(10, 1, 8)
    for _ in range(2):
        with pytest.raises(UserError, match=r"the export of AlwaysDropping as fp32 would fail: .* random"):
            rehearse_export(network, info_of(network), ["fp32"])


def test_only_what_has_not_succeeded_before_is_rehearsed(
    runs: Callable[..., bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (runs(), runs()) == (True, False)
    assert runs(size=12)
    assert runs(variants=["dynamic", "fp32"])
    assert runs(settings=ExportSettings(preprocess="inside"))
    monkeypatch.setattr(onnx, "__version__", "another")
    assert (runs(), runs()) == (True, False)


def test_a_change_of_the_users_own_module_or_of_one_that_it_imports_is_rehearsed(
    runs: Callable[..., bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_network.py").write_text(OWN)
    (tmp_path / "own_helper.py").write_text("SIZE = 8\n")
    monkeypatch.syspath_prepend(tmp_path)
    network = import_module("own_network").OwnNN(image_size=8)
    assert (runs(network), runs(network)) == (True, False)
    (tmp_path / "own_helper.py").write_text("SIZE = 16\n")
    assert runs(network)
    for name in ("own_network", "own_helper"):
        monkeypatch.delitem(sys.modules, name)


def test_without_a_source_or_a_cache_that_can_be_written_it_is_rehearsed_every_time(
    runs: Callable[..., bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "notebook", ModuleType("notebook"))
    typed_in = type("TypedIn", (LightNN,), {"__module__": "notebook"})(image_size=8)
    assert (runs(typed_in), runs(typed_in)) == (True, True)
    (tmp_path / "kd_lightning" / rehearsal.DONE).write_text("a file where the folder would be")
    assert (runs(), runs()) == (True, True)
