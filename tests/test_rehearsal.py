"""An export is rehearsed before training, and only where it has not gone well before."""

from pathlib import Path

import pytest
from export_example import info_of, trained_network
from test_export import VARIANTS, AlwaysDropping

from kd_lightning.errors import UserError
from kd_lightning.export import ExportSettings, rehearsal, rehearse_export
from kd_lightning.export.onnx import export_onnx
from kd_lightning.model_info import ModelInfo
from kd_lightning.networks import LightNN, Network


@pytest.fixture
def exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Start without a memory; list the networks that are exported."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    names: list[str] = []

    def counted(network: Network, info: ModelInfo, path: Path) -> None:
        names.append(type(network).__name__)
        export_onnx(network, info, path)

    monkeypatch.setattr(rehearsal, "export_onnx", counted)
    return names


def test_a_rehearsal_that_has_gone_well_is_not_repeated(exported: list[str]) -> None:
    for _ in range(2):
        network = trained_network()
        rehearse_export(network, info_of(network), VARIANTS)
    assert len(exported) == 1


def test_a_network_that_cannot_be_exported_is_found_every_time(exported: list[str]) -> None:
    network = AlwaysDropping(10, 1, 8)
    for _ in range(2):
        with pytest.raises(UserError, match=r"the export of AlwaysDropping as fp32 would fail: .* random"):
            rehearse_export(network, info_of(network), ["fp32"])
    assert len(exported) == 2


def test_other_arguments_variants_settings_sources_and_libraries_are_rehearsed_anew(
    exported: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def rehearse(size: int = 8, **options: object) -> None:
        network = LightNN(in_channels=1, image_size=size)
        rehearse_export(network, info_of(network), **{"variants": ["fp32"], **options})  # type: ignore[arg-type]

    rehearse()
    rehearse(size=12)
    rehearse(variants=["dynamic", "fp32"])
    rehearse(settings=ExportSettings(preprocess="inside"))
    monkeypatch.setattr(rehearsal, "version", lambda library: "another")
    rehearse()
    monkeypatch.setattr(rehearsal, "getsource", lambda module: "another")
    rehearse()
    assert len(exported) == 6
    rehearse()
    assert len(exported) == 6


def test_a_network_without_a_source_and_a_cache_that_cannot_be_written_are_rehearsed_every_time(
    exported: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = LightNN(in_channels=1, image_size=8)
    (tmp_path / "kd_lightning").write_text("a file where the folder would be")
    for _ in range(2):
        rehearse_export(network, info_of(network), ["fp32"])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))

    def unknown(module: object) -> str:
        raise OSError("could not get source code")

    monkeypatch.setattr(rehearsal, "getsource", unknown)
    for _ in range(2):
        rehearse_export(network, info_of(network), ["fp32"])
    assert len(exported) == 4
