"""Whose code is whose: a distribution's, wherever it lies, or the user's, whose changes repeat runs."""

import sys
from pathlib import Path

import pytest

from kd_lightning import sources

METADATA = "Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of installed packages that is not the interpreter's, as `pip --target` makes."""
    folder = tmp_path / "parts"
    write(folder / "dropped.py")
    for name, files in {"one_lib": ["one_lib/__init__.py", "one_lib/deep/part.py"], "two": ["two_lib.py"]}.items():
        for file in files:
            write(folder / file)
        write(folder / f"{name}-1.0.dist-info" / "METADATA", METADATA.format(name=name))
        write(folder / f"{name}-1.0.dist-info" / "RECORD", "".join(f"{file},sha256=x,1\n" for file in files))
    monkeypatch.syspath_prepend(folder)
    return folder


def test_what_a_distribution_has_installed_is_a_library_and_what_lies_beside_it_is_not(install: Path) -> None:
    for name in ("one_lib", "one_lib.deep.part", "two_lib", "torch", "torch.nn", "numpy", "typing_extensions", "json"):
        assert sources._source(name) is None, name
    assert sources._source("dropped") == install / "dropped.py"
    assert sources._source("kd_lightning.sources") == Path(sources.__file__)


def test_an_editable_install_is_the_users_own(install: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = tmp_path / "project"
    module = write(project / "edited" / "net.py")
    write(project / "edited" / "__init__.py")
    monkeypatch.syspath_prepend(project)
    for folder in (install / "edited-1.0.dist-info", project / "edited.egg-info"):
        write(folder / "top_level.txt", "edited\n")
        write(folder / ("METADATA" if folder.suffix == ".dist-info" else "PKG-INFO"), METADATA.format(name="edited"))
    write(project / "edited.egg-info" / "SOURCES.txt", "edited/net.py\n")
    write(install / "edited-1.0.dist-info" / "RECORD", "__editable__.edited.pth,,\n")
    assert sources._source("edited.net") == module


def test_a_module_in_folders_without_an_init_is_found_without_importing_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "spaced.py", "def later():\n    from space.inner.deep import net")
    module = write(tmp_path / "space" / "inner" / "deep" / "net.py", "import torch")
    monkeypatch.syspath_prepend(tmp_path)
    found, libraries = sources.reached(["spaced"], lambda name: False)
    assert found == {"spaced": tmp_path / "spaced.py", "space.inner.deep.net": module}
    assert "torch" in libraries
    assert "space" not in sys.modules


def test_a_library_in_a_folder_that_another_path_names_is_still_a_library(
    install: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(install)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "link"), *(path for path in sys.path if path != str(install))])
    assert sources._source("one_lib.deep.part") is None
    assert sources._source("dropped") == tmp_path / "link" / "dropped.py"
