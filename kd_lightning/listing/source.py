"""What Python files define, read without running them: importing torch and Lightning takes seconds."""

import ast
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec, resolve_name
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
    """Follow an import path, through files that re-export its name, to the definition.

    Raises:
        UserError: A file on the way is not valid Python.
    """
    parts = path.split(".")
    for count in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:count])
        if (file := _path(name)) is not None:
            return look_up(read(file, name), ".".join(parts[count:]))
    return None


def look_up(module: Module, name: str) -> Found | None:
    """Find what a name, such as ``Loss`` or ``losses.Loss``, means in a module."""
    head, dot, rest = name.partition(".")
    found = module.names.get(head)
    if isinstance(found, str):
        return resolve(found + dot + rest)
    return None if found is None or rest else Found(module, found)


def assigned(body: Sequence[ast.stmt]) -> dict[str, ast.expr]:
    """Return the names that statements assign, and their values."""
    values: dict[str, ast.expr] = {}
    for node in body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            values |= {target.id: node.value for target in targets if isinstance(target, ast.Name)}
    return values


@cache
def read(path: Path, name: str) -> Module:
    """Read a file of a module.

    Raises:
        UserError: It is not valid Python.
    """
    try:
        statements = list(_statements(ast.parse(path.read_bytes()).body))
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        classes = {node.name: node for node in statements if isinstance(node, ast.ClassDef)}
        return Module(name, path, {**dict(_imported(statements, package)), **assigned(statements), **classes})
    except (OSError, SyntaxError, ValueError, ImportError) as error:
        raise UserError(f"{path} is not valid Python ({error}); fix it.") from error


def _path(name: str) -> Path | None:
    """Return a module's file, without an import of packages around it; ``None`` where none is read."""
    head = name.partition(".")[0]
    try:
        spec = None if head in NOT_READ else find_spec(head)
    except ValueError:  # an empty name, or a module without a spec, such as __main__
        return None
    if spec is None:
        return None
    roots = spec.submodule_search_locations or [spec.origin or ""]
    modules = [Path(root).parent.joinpath(*name.split(".")) for root in roots]
    files = [file for module in modules for file in (module / "__init__.py", module.with_suffix(".py"))]
    return next((file for file in files if file.is_file()), None)


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Give a module's statements, and those under its conditions: ``if TYPE_CHECKING`` has imports."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try):
            yield from _statements([*node.body, *node.orelse])


def _imported(statements: Sequence[ast.stmt], package: str) -> Iterator[tuple[str, str]]:
    """Give the names that are imported, and their import paths; relative ones count from the package."""
    for node in statements:
        for alias in node.names if isinstance(node, ast.Import | ast.ImportFrom) else ():
            if isinstance(node, ast.ImportFrom):
                source = resolve_name("." * node.level + (node.module or ""), package)
                yield alias.asname or alias.name, f"{source}.{alias.name}"
            else:
                first = alias.asname or alias.name.partition(".")[0]
                yield first, alias.name if alias.asname else first
