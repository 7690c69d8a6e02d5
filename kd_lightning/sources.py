"""Code: the user's own modules that Python has imported, the libraries beside them, and this package's version."""

import sys
import sysconfig
from collections.abc import Iterable
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions, version
from pathlib import Path
from types import ModuleType

from kd_lightning.digest import digest

PACKAGE = Path(__file__).parent
PYTHON = sysconfig.get_path("stdlib")
"""The folder of Python's own modules."""

INSTALLED = {"site-packages", "dist-packages"}
"""Folders into which libraries are installed."""


@cache
def package_version() -> str:
    """Return this package's version with a digest of its sources, as in ``0.1.0 (3f9a01c2)``."""
    sources = (path.read_bytes() for path in sorted(PACKAGE.rglob("*.py")))
    return f"{version(PACKAGE.name)} ({digest(*sources, size=4)})"


def own_modules() -> dict[str, Path]:
    """Return the files of all imported modules that are the user's own, by name."""
    return {name: path for name in list(sys.modules) if (path := own_file(name)) is not None}


def own_file(module: str) -> Path | None:
    """Return the file of an imported module that is neither Python's, nor installed, nor of this package."""
    file, top = getattr(sys.modules.get(module), "__file__", None), module.partition(".")[0]
    if file is None or top == PACKAGE.name or top in sys.stdlib_module_names or _is_of_a_library(file, top):
        return None
    path = Path(file)
    return path if path.is_file() else None


@cache
def _is_of_a_library(file: str, top: str) -> bool:
    """Whether a module's file is Python's own, or installed."""
    path = Path(file)
    is_pythons = path.is_relative_to(PYTHON) and not INSTALLED & {*path.parts}
    return is_pythons or _is_installed(path, top)


def _is_installed(path: Path, top: str) -> bool:
    """Whether a distribution has brought a module's file; an editable install is the user's own."""
    folder = next((parent for parent in path.parents if parent.name in INSTALLED), None)
    if folder is not None:
        first = path.relative_to(folder).parts[0]  # some libraries import their inner files by name alone
        return bool({top, first} & _distributions().keys()) or first.startswith("__editable__")
    found = map(distribution, _distributions().get(top, ()))  # ``pip install --target`` leaves a RECORD, a build none
    return any(each.read_text("RECORD") and path.is_relative_to(str(each.locate_file(""))) for each in found)


def used_by(modules: Iterable[str]) -> tuple[set[str], set[str]]:
    """Return which of the user's own modules some modules use, directly or not, and the top names of their libraries.

    A module uses the modules among its values, and those that its classes, functions and objects come from.
    """
    own, libraries, waiting = set[str](), set[str](), list(modules)
    while waiting:
        name = waiting.pop()
        if name in own:
            continue
        if own_file(name) is None:
            libraries.add(name.partition(".")[0])
            continue
        own.add(name)
        waiting += [name.rpartition(".")[0], *map(_origin, list(vars(sys.modules[name]).values()))]
    return own, libraries & _distributions().keys() - {PACKAGE.name}


def _origin(value: object) -> str:
    name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    return name if isinstance(name, str) else ""


def library_version(name: str) -> str:
    """Return the version of an installed library, by the name that is imported; empty where there is none."""
    try:
        return version(_distributions().get(name, [name])[0])
    except PackageNotFoundError:
        return ""


@cache
def _distributions() -> dict[str, list[str]]:
    return dict(packages_distributions())
