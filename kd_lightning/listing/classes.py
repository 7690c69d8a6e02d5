"""A class read from its source: its docstring and its options, with those that it passes on to its bases."""

import ast
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple

from docstring_parser import Docstring, DocstringStyle, parse

from kd_lightning.listing.source import Found, Module, assigned, look_up, resolve

REQUIRED = object()
"""The default of an option that must be given."""


class Code(str):
    """A default that is not a literal, as source text."""


class Option(NamedTuple):
    """One argument of a class's constructor."""

    name: str
    kind: str
    default: Any
    help: str = ""


@dataclass(frozen=True, eq=False)
class ClassSource:
    """A class in a file."""

    module: Module
    node: ast.ClassDef

    @property
    def name(self) -> str:
        """Its name."""
        return self.node.name

    @property
    def path(self) -> str:
        """Its import path."""
        return f"{self.module.name}.{self.name}"

    @cached_property
    def docstring(self) -> Docstring:
        """Its docstring in parts."""
        return parse(ast.get_docstring(self.node) or "", DocstringStyle.GOOGLE)

    @property
    def title(self) -> str:
        """What it is: the first line of its docstring."""
        return one_line(self.docstring.short_description)

    @cached_property
    def lineage(self) -> tuple["ClassSource", ...]:
        """The class and its bases, the nearest first, without those of libraries."""
        names = [ast.unparse(base.value if isinstance(base, ast.Subscript) else base) for base in self.node.bases]
        bases = [_as_class(look_up(self.module, name)) for name in names]
        found = [self, *(other for base in bases if base and base.node is not self.node for other in base.lineage)]
        return tuple({kind.path: kind for kind in reversed(found)}.values())[::-1]

    @property
    def is_abstract(self) -> bool:
        """Whether it has an abstract method."""
        members: dict[str, bool] = {}
        for body in (kind.node.body for kind in reversed(self.lineage)):
            methods = [node for node in body if isinstance(node, ast.FunctionDef)]
            members |= {node.name: _has_mark(node, "abstractmethod") for node in methods}
            members |= dict.fromkeys(assigned(body), False)
        return any(members.values())

    @property
    def short(self) -> str:
        """The field's short name for it, its own or inherited; empty where there is none."""
        for kind in self.lineage:
            if value := assigned(kind.node.body).get("short"):
                return str(_value(kind.module, value))
        return ""

    @cached_property
    def options(self) -> tuple[Option, ...]:
        """Its constructor's arguments, then those that it passes on to its bases, whose docstrings explain them."""
        texts: dict[str, str] = {}
        for kind in reversed(self.lineage):
            entries = [entry for entry in kind.docstring.params if entry.args[0] == "param"]
            texts |= {entry.arg_name: one_line(entry.description) for entry in entries}
        return tuple(option._replace(help=texts.get(name, "")) for name, option in _options(self.lineage).items())


def find_class(path: str) -> ClassSource | None:
    """Find a class by its import path."""
    return _as_class(resolve(path))


def one_line(text: str | None) -> str:
    """Return a text of a docstring as one line, with names and formulas in simple backticks."""
    return " ".join((text or "").split()).replace("``", "`")


def _as_class(found: Found | None) -> ClassSource | None:
    return ClassSource(found.module, found.node) if found and isinstance(found.node, ast.ClassDef) else None


def _has_mark(node: ast.ClassDef | ast.FunctionDef, mark: str) -> bool:
    return any(ast.unparse(decorator).startswith(mark) for decorator in node.decorator_list)


def _option(module: Module, name: str, annotation: ast.expr | None, default: ast.expr | None) -> Option:
    kind = "" if annotation is None else _type(module, annotation)
    return Option(name, kind, REQUIRED if default is None else _value(module, default))


def _type(module: Module, node: ast.AST) -> str:
    """Return a type as ``int | auto``: choices as a config has them, and aliases replaced by their types."""
    match node:
        case ast.BinOp(left=left, right=right):
            return f"{_type(module, left)} | {_type(module, right)}"
        case ast.Subscript(value=ast.Name(id="Literal"), slice=choices):
            values = choices.elts if isinstance(choices, ast.Tuple) else [choices]
            return " | ".join(str(ast.literal_eval(value)) for value in values)
        case ast.Name(id=name):
            found = look_up(module, name)
            is_alias = found and isinstance(found.node, ast.Subscript | ast.BinOp)
            return _type(found.module, found.node) if found and is_alias else name
        case ast.Constant(value=None):
            return "null"
        case ast.Constant(value=str(quoted)):
            with suppress(SyntaxError):
                return _type(module, ast.parse(quoted, mode="eval").body)
    return ast.unparse(node)


def _value(module: Module, node: ast.expr) -> Any:
    """Return a default; a constant's name is resolved to its value."""
    found = look_up(module, node.id) if isinstance(node, ast.Name) else None
    try:
        return ast.literal_eval(found.node if found and isinstance(found.node, ast.expr) else node)
    except ValueError:
        return Code(ast.unparse(node))


def _options(lineage: Sequence[ClassSource]) -> dict[str, Option]:
    if not lineage:
        return {}
    kind, *bases = lineage
    init = next((node for node in kind.node.body if getattr(node, "name", "") == "__init__"), None)
    if not isinstance(init, ast.FunctionDef):
        return _options(bases) | (dict(_fields(kind)) if _has_mark(kind.node, "dataclass") else {})
    own = {option.name: option for option in _arguments(kind.module, init.args)}
    return own | _passed_on(init, _options(bases), own) if init.args.kwarg else own


def _arguments(module: Module, arguments: ast.arguments) -> Iterator[Option]:
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults = [*[None] * (len(plain) - len(arguments.defaults)), *arguments.defaults, *arguments.kw_defaults]
    for argument, default in islice(zip([*plain, *arguments.kwonlyargs], defaults, strict=True), 1, None):
        yield _option(module, argument.arg, argument.annotation, default)


def _passed_on(init: ast.FunctionDef, inherited: dict[str, Option], own: Iterable[str]) -> dict[str, Option]:
    """Return the bases' arguments without those that ``super().__init__(...)`` is given by name or place."""
    given = set(own)
    for call in (node for node in ast.walk(init) if isinstance(node, ast.Call)):
        if ast.unparse(call.func) == "super().__init__":
            places = [value for value in call.args if not isinstance(value, ast.Starred)]
            given.update(islice(inherited, len(places)), (keyword.arg or "" for keyword in call.keywords))
    return {name: option for name, option in inherited.items() if name not in given}


def _fields(kind: ClassSource) -> Iterator[tuple[str, Option]]:
    for node in kind.node.body:
        if isinstance(node, ast.AnnAssign) and not ast.unparse(node.annotation).startswith("ClassVar"):
            name = ast.unparse(node.target)
            yield name, _option(kind.module, name, node.annotation, node.value)
