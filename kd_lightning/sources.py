"""The code that a class depends on: the source files that its module imports, directly or not, and the libraries."""

import ast
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache, lru_cache
from hashlib import blake2b
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import PackageNotFoundError, distributions, packages_distributions, version
from importlib.util import find_spec
from pathlib import Path

PACKAGE = Path(__file__).parent

DYNAMIC = re.compile(rb"\b(importlib|__import__|import_module|exec|eval|resolve_name|runpy)\b")
"""What can import a module that the source does not name."""


def code_digest(modules: Iterable[str], left_out: Callable[[str], bool] = lambda module: False) -> str:
    """Return a digest of the sources that modules import, directly or not, and of the versions of their libraries.

    A source of the user that imports dynamically counts for all sources in its folder.

    Args:
        modules: Names of the first modules.
        left_out: Returns whether a module, by its name, is left out.
    """
    digest, (sources, libraries) = blake2b(digest_size=16), reached(modules, left_out)
    for name in sorted(sources):
        digest.update(name.encode() + b"\0" + blake2b(sources[name].read_bytes()).digest())
    for library in sorted(libraries):
        digest.update(f"{library} {_version(library)}\0".encode())
    return digest.hexdigest()


def reached(modules: Iterable[str], left_out: Callable[[str], bool]) -> tuple[dict[str, Path], set[str]]:
    """Return the sources that modules import, directly or not, by name, and the top names of their libraries."""
    sources: dict[str, Path] = {}
    libraries: set[str] = set()
    waiting, seen = list(modules), set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen or left_out(name):
            continue
        seen.add(name)
        path = _source(name)
        if path is None:
            libraries.add(name.partition(".")[0])
            continue
        sources[name] = path
        waiting += [name.rpartition(".")[0]] if "." in name else []
        source = path.read_bytes()
        waiting += _imports(name if path.name == "__init__.py" else name.rpartition(".")[0], source)
        if PACKAGE not in path.parents and DYNAMIC.search(source):
            sources |= {str(other): other for other in sorted(path.parent.rglob("*.py"))}
    return sources, {library for library in libraries if library not in sys.stdlib_module_names}


def _source(name: str) -> Path | None:
    """Return the source of a module that is neither Python's nor installed; ``None`` for any other, or no module."""
    if name.partition(".")[0] in sys.stdlib_module_names:
        return None
    spec = _spec(name)
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    path = Path(spec.origin)
    own = PACKAGE in path.parents or not _is_installed(path)
    return path if own and path.is_file() else None


def _is_installed(path: Path) -> bool:
    """Return whether a distribution has installed a file, in any folder; the user's own may be editable."""
    return any(path.relative_to(folder).parts[0].removesuffix(".py") in _installed(folder) for folder in path.parents)


@cache
def _installed(folder: Path) -> frozenset[str]:
    """Return the top names that distributions have installed in a folder, from their metadata there."""
    found = set[str]()
    for distribution in distributions(path=[str(folder)]):
        if distribution.read_text("SOURCES.txt") is None:  # which is beside sources that are not installed
            names = distribution.read_text("top_level.txt")
            files = distribution.read_text("RECORD") or ""
            found |= set(names.split()) if names else {re.split("[/.,]", line)[0] for line in files.splitlines()}
    return frozenset(found)


def _spec(name: str) -> ModuleSpec | None:
    """Find a module without importing it or what it is in."""
    loaded: ModuleSpec | None = getattr(sys.modules.get(name), "__spec__", None)
    if loaded is not None:
        return loaded
    parent, _, last = name.rpartition(".")
    if not parent:
        with suppress(ValueError, ImportError):  # a module without a spec
            return find_spec(name)
        return None
    around = _spec(parent)
    if around is None or around.submodule_search_locations is None:
        return None
    try:
        return PathFinder.find_spec(name, around.submodule_search_locations)
    except KeyError:  # a folder without an __init__.py, in one that is not imported
        found = ModuleSpec(name, None, is_package=True)
        found.submodule_search_locations = [str(Path(place, last)) for place in around.submodule_search_locations]
        return found


@lru_cache(maxsize=1024)
def _imports(package: str, source: bytes) -> tuple[str, ...]:
    """Return the names of the modules that a source in a package imports, wherever in it."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError):
        return ()
    plain = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    return (*plain, *(name for node in nodes if isinstance(node, ast.ImportFrom) for name in _from(node, package)))


def _from(node: ast.ImportFrom, package: str) -> Iterator[str]:
    """Yield the module that a ``from`` names, and those of its names that are modules too."""
    parts = package.split(".")
    above = parts[: len(parts) - node.level + 1] if node.level else []
    base = ".".join([*above, *([node.module] if node.module else [])])
    yield base
    yield from (name for alias in node.names if _spec(name := f"{base}.{alias.name}"))


@cache
def _version(library: str) -> str:
    """Return the version of the distribution that a library came with; empty where it came with none."""
    try:
        return version((_distributions().get(library) or [library])[0])
    except PackageNotFoundError:
        return ""


@cache
def _distributions() -> dict[str, list[str]]:
    return dict(packages_distributions())
