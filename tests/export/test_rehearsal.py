"""An export is rehearsed before training, unless the same rehearsal succeeded before."""

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from export_example import VARIANTS, AlwaysDropping, info_of, trained_network

from kd_lightning.errors import UserError
from kd_lightning.export import ExportSettings, rehearsal, rehearse_export
from kd_lightning.networks import LightNN


@pytest.fixture(autouse=True)
def no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture
def rehearsed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rehearsals, which only count."""
    counted: list[int] = []
    monkeypatch.setattr(rehearsal, "_rehearse", lambda *_: counted.append(1))
    return counted


def rehearse(size: int = 8, **options: Any) -> None:
    network = LightNN(image_size=size)
    rehearse_export(network, info_of(network), **{"variants": ["fp32"], **options})


def test_a_network_that_can_be_exported_passes() -> None:
    network = trained_network()
    rehearse_export(network, info_of(network), VARIANTS)


def test_a_network_that_cannot_be_exported_is_found_every_time() -> None:
    network = AlwaysDropping(10, 1, 8)
    for _ in range(2):
        with pytest.raises(UserError, match=r"the export of AlwaysDropping as fp32 would fail: .* random"):
            rehearse_export(network, info_of(network), ["fp32"])


def test_a_rehearsal_that_succeeded_is_not_repeated(rehearsed: list[int]) -> None:
    rehearse()
    rehearse()
    assert len(rehearsed) == 1


def test_other_arguments_variants_settings_sources_and_libraries_are_rehearsed_again(
    rehearsed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    rehearse()
    rehearse(size=12)
    rehearse(variants=["dynamic", "fp32"])
    rehearse(settings=ExportSettings(preprocess="inside"))
    monkeypatch.setattr(rehearsal, "version", lambda library: "another")
    rehearse()
    monkeypatch.setattr(rehearsal, "getsource", lambda module: "another")
    rehearse()
    assert len(rehearsed) == 6
    rehearse()
    assert len(rehearsed) == 6


def test_a_network_without_a_source_is_rehearsed_every_time(
    rehearsed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(module: object) -> str:
        raise OSError("could not get source code")

    monkeypatch.setattr(rehearsal, "getsource", unknown)
    rehearse()
    rehearse()
    assert len(rehearsed) == 2


def test_a_library_that_is_installed_under_another_name_does_not_stop_a_rehearsal(
    rehearsed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "LIBRARIES", ("torch", "no_such_distribution"))
    rehearse()
    rehearse()
    assert len(rehearsed) == 2


def test_a_helper_module_of_the_users_own_is_one_of_the_sources(
    rehearsed: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_network.py").write_text(
        "from own_helper import SIZE\nfrom kd_lightning.networks import LightNN\n\n\nclass OwnNN(LightNN):\n    pass\n"
    )
    (tmp_path / "own_helper.py").write_text("SIZE = 8\n")
    monkeypatch.syspath_prepend(tmp_path)
    network = import_module("own_network").OwnNN(image_size=8)
    for text in ("SIZE = 8\n", "SIZE = 8\n", "SIZE = 16\n"):
        (tmp_path / "own_helper.py").write_text(text)
        rehearse_export(network, info_of(network), ["fp32"])
    for name in ("own_network", "own_helper"):
        monkeypatch.delitem(sys.modules, name)
    assert len(rehearsed) == 2


def test_the_sources_are_those_of_the_layers_and_their_bases_and_neither_torchs_nor_pythons(
    rehearsed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []

    def getsource(module: ModuleType) -> str:
        read.append(module.__name__)
        return ""

    monkeypatch.setattr(rehearsal, "getsource", getsource)
    rehearse()
    assert sorted(read) == ["kd_lightning.networks.base", "kd_lightning.networks.tutorial"]


def test_without_a_cache_that_can_be_written_it_is_rehearsed_every_time(rehearsed: list[int], tmp_path: Path) -> None:
    (tmp_path / "kd_lightning").write_text("a file where the folder would be")
    rehearse()
    rehearse()
    assert len(rehearsed) == 2


def test_concurrent_rehearsals_are_all_recorded_and_of_many_the_newest(
    rehearsed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:

        def while_another_process_rehearses(*_: object) -> None:
            patch.undo()
            rehearse(size=12)

        patch.setattr(rehearsal, "_rehearse", while_another_process_rehearses)
        rehearse()
    rehearse()
    rehearse(size=12)
    assert len(rehearsed) == 1
    monkeypatch.setattr(rehearsal, "KEPT", 1)
    rehearse(size=16)
    rehearse(size=16)
    assert len(rehearsed) == 2
    rehearse()
    assert len(rehearsed) == 3
