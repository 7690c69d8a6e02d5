"""The code of a user's own that a network or a task may lean on."""

import os
import site
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

PACKAGE = str(Path(__file__).parent)
LIBRARIES = tuple(sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))
"""Folders of Python and of what is installed for it."""


def own_modules() -> set[ModuleType]:
    """Return the loaded modules that are neither Python's, nor installed, nor this package's.

    A class's module alone does not tell what the class does: it may import helpers, and these others.
    """
    folders = (PACKAGE, *LIBRARIES, *site.getsitepackages(), site.getusersitepackages())
    starts = tuple(f"{folder}{os.sep}" for folder in folders)
    return {module for module in list(sys.modules.values()) if _is_own(getattr(module, "__file__", None), starts)}


def _is_own(file: object, starts: tuple[str, ...]) -> bool:
    return isinstance(file, str) and not file.startswith(starts) and Path(file).is_absolute() and Path(file).is_file()
