"""What Python files define, read without running them: importing torch and Lightning takes seconds."""

import ast
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from kd_lightning.errors import UserError

NOT_READ = sys.stdlib_module_names | {"torch", "torchvision", "torchmetrics", "lightning", "numpy"}
"""Packages that are not read: none of their classes is one of ours."""

Definition = ast.ClassDef | ast.expr | str
"""A class, the value that is assigned to a name, or the import path that a name stands for."""


class Module(NamedTuple):
    """A file and the names that it defines or imports."""

    name: str
    path: Path
    names: dict[str, Definition]


class Found(NamedTuple):
    """A definition and the module that it is in."""

    module: Module
    node: ast.ClassDef | ast.expr


def resolve(path: str) -> Found | None:
    """Follow an import path, through files that re-export its name, to the definition."""
    parts = path.split(".")
    for count in range(len(parts) - 1, 0, -1):
        if (module := read_module(".".join(parts[:count]))) is not None:
            return look_up(module, ".".join(parts[count:]))
    return None


def look_up(module: Module, name: str) -> Found | None:
    """Find what a name, such as ``Loss`` or ``losses.Loss``, means in a module."""
    head, _, rest = name.partition(".")
    found = module.names.get(head)
    if isinstance(found, str):
        return resolve(f"{found}.{rest}" if rest else found)
    return None if found is None or rest else Found(module, found)


def read_module(name: str) -> Module | None:
    """Read a module; ``None`` where there is no such file, or its package is in ``NOT_READ``.

    Raises:
        UserError: The file is not valid Python.
    """
    path = _path(name)
    return None if path is None else Module(name, path, _names(path, name))


def _path(name: str) -> Path | None:
    """Return a module's file; packages around it are not imported."""
    head, *rest = name.split(".")
    if not head or head in NOT_READ:
        return None
    try:
        spec = find_spec(head)
    except ValueError:  # a module without a spec, such as __main__
        return None
    if spec is None:
        return None
    if not rest:
        return Path(spec.origin) if spec.origin is not None and spec.origin.endswith(".py") else None
    folders = [Path(place, *rest[:-1]) for place in spec.submodule_search_locations or ()]
    files = [folder / last for folder in folders for last in (f"{rest[-1]}/__init__.py", f"{rest[-1]}.py")]
    return next((file for file in files if file.is_file()), None)


@cache
def _names(path: Path, name: str) -> dict[str, Definition]:
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(f"{path} is not valid Python ({error}); fix it.") from error
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return dict(_defined(_statements(tree.body), package))


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Give a module's statements, and those under its conditions: ``if TYPE_CHECKING`` has imports."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try):
            yield from _statements([*node.body, *node.orelse])


def _defined(statements: Iterable[ast.stmt], package: str) -> Iterator[tuple[str, Definition]]:
    for node in statements:
        if isinstance(node, ast.ClassDef):
            yield node.name, node
        elif isinstance(node, ast.Import):
            yield from ((name.asname, name.name) if name.asname else (_first(name.name),) * 2 for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = _source(node, package)
            yield from ((name.asname or name.name, f"{source}.{name.name}") for name in node.names)
        else:
            yield from assigned(node)


def assigned(node: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    """Give the names that a statement assigns, and their value."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    for target in targets:
        if isinstance(target, ast.Name) and isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            yield target.id, node.value


def _first(name: str) -> str:
    return name.partition(".")[0]


def _source(node: ast.ImportFrom, package: str) -> str:
    """Return the module that names are imported from; ``from .base import Loss`` counts from the package."""
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    return ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [node.module])])
