"""Whose code is whose: a distribution's, or the user's, whose changes repeat runs."""

import sys
import sysconfig
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from kd_lightning import sources


def write(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_what_is_installed_is_a_library_and_what_lies_beside_it_is_the_users_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed, target, project = (tmp_path / name for name in ("site-packages", "target", "project"))
    for file in ("one_lib/__init__.py", "one_lib/part.py", "one_lib/inner/by_name.py", "dropped.py"):
        write(installed / file)
    write(installed / "__editable___edited_finder.py")
    write(target / "aimed.py")
    for root, name, files in (
        (installed, "one_lib", "one_lib/part.py,,\n"),
        (installed, "edited", "__editable__.edited.pth,,\n"),
        (target, "aimed", "aimed.py,,\n"),
    ):
        folder = root / f"{name}-1.0.dist-info"
        write(folder / "METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        write(folder / "RECORD", files)
    write(project / "project.egg-info" / "PKG-INFO", "Metadata-Version: 2.1\nName: project\nVersion: 1.0\n")
    write(project / "project.egg-info" / "top_level.txt", "built\n")
    write(project / "built.py")
    write(installed / "edited-1.0.dist-info" / "top_level.txt", "edited\n")
    write(installed / "one_lib-1.0.dist-info" / "top_level.txt", "native\none_lib\n")
    write(project / "edited" / "__init__.py", "import one_lib.part, json")
    for folder in (installed, installed / "one_lib" / "inner", target, project):
        monkeypatch.syspath_prepend(folder)
    sources._distributions.cache_clear()
    sysconfig.get_config_vars()  # imports a module of Python's own
    data = next(name for name in sys.modules if name.startswith("_sysconfigdata"))
    others = ["by_name", "__editable___edited_finder", "aimed", data]
    names = ["one_lib", "one_lib.part", "dropped", "edited", "built", *others]
    for name in names:
        import_module(name)
    native = ModuleType("native")
    native.__file__ = str(write(installed / "native.abi3.so"))
    monkeypatch.setitem(sys.modules, "native", native)
    own = sources.own_modules()
    assert own["dropped"] == installed / "dropped.py"
    assert own["edited"] == project / "edited" / "__init__.py"  # an editable install
    assert own["built"] == project / "built.py"  # its metadata lie beside it, as after a build
    libraries = {"one_lib", "one_lib.part", "native", *others, "torch", "numpy", "json", "kd_lightning.sources"}
    assert not libraries & own.keys()
    assert sources.used_by(["edited"]) == ({"edited"}, {"one_lib"})
    assert sources.library_version("one_lib") == "1.0"
    for name in names:
        del sys.modules[name]
    sources._distributions.cache_clear()


def test_this_packages_version_has_a_digest_of_its_sources() -> None:
    assert sources.package_version().startswith("0.1.0 (")
