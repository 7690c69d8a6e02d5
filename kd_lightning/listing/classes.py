"""A class read from its source: its docstring and its options, with those that it passes on to its bases."""

import ast
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple

from docstring_parser import Docstring, DocstringStyle, parse

from kd_lightning.listing.source import Found, Module, assigned, look_up, resolve

REQUIRED = object()
"""The default of an option that must be given."""

COMPOSED = (ast.Subscript, ast.BinOp)
"""Types that a type alias stands for."""


class Code(str):
    """A default that is not a literal, as source text."""


class Option(NamedTuple):
    """One argument of a class's constructor."""

    name: str
    kind: str
    default: Any
    help: str


class _Parameter(NamedTuple):
    module: Module
    annotation: ast.expr | None
    default: ast.expr | None


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
        return one_line(self.docstring.short_description or "")

    @cached_property
    def lineage(self) -> tuple["ClassSource", ...]:
        """The class and its bases, the nearest first, without those of libraries."""
        names = [base.value if isinstance(base, ast.Subscript) else base for base in self.node.bases]
        bases = [as_class(look_up(self.module, ast.unparse(name))) for name in names]
        others = [base for base in bases if base is not None and base.node is not self.node]
        found = [self, *(other for base in others for other in base.lineage)]
        return tuple({kind.path: kind for kind in reversed(found)}.values())[::-1]

    @property
    def is_abstract(self) -> bool:
        """Whether it has an abstract method."""
        defined: dict[str, bool] = {}
        for kind in reversed(self.lineage):
            defined |= dict(_members(kind.node))
        return any(defined.values())

    def constant(self, name: str) -> Any:
        """Return the value of a class attribute, its own or inherited; ``None`` where there is none."""
        for kind in self.lineage:
            values = dict(pair for node in kind.node.body for pair in assigned(node))
            if name in values:
                return _value(kind.module, values[name])
        return None

    @cached_property
    def options(self) -> tuple[Option, ...]:
        """Its constructor's arguments, then those that it passes on to its bases."""
        return tuple(self._option(name, value) for name, value in _parameters(self.lineage).items())

    def _option(self, name: str, parameter: _Parameter) -> Option:
        module, annotation, default = parameter
        kind = "" if annotation is None else type_text(module, annotation)
        return Option(name, kind, REQUIRED if default is None else _value(module, default), self._help(name))

    def _help(self, name: str) -> str:
        for kind in self.lineage:
            for entry in kind.docstring.params:
                if entry.args[0] == "param" and entry.arg_name == name:
                    return one_line(entry.description or "")
        return ""


def as_class(found: Found | None) -> ClassSource | None:
    """Return what was found as a class; ``None`` where it is not a class."""
    return ClassSource(found.module, found.node) if found and isinstance(found.node, ast.ClassDef) else None


def find_class(path: str) -> ClassSource | None:
    """Find a class by its import path."""
    return as_class(resolve(path))


def one_line(text: str) -> str:
    """Return a text of a docstring as one line, with names and formulas in simple backticks."""
    return " ".join(text.split()).replace("``", "`")


def type_text(module: Module, node: ast.expr) -> str:
    """Return a type as ``int | auto``: choices as a config has them, and aliases replaced by their types."""
    if isinstance(node, ast.BinOp):
        return f"{type_text(module, node.left)} | {type_text(module, node.right)}"
    if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "Literal":
        choices = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        return " | ".join(str(ast.literal_eval(choice)) for choice in choices)
    if isinstance(node, ast.Name):
        found = look_up(module, node.id)
        return type_text(found.module, found.node) if found and isinstance(found.node, COMPOSED) else node.id
    if isinstance(node, ast.Constant) and isinstance(node.value, str):  # a quoted annotation
        with suppress(SyntaxError):
            return type_text(module, ast.parse(node.value, mode="eval").body)
    if isinstance(node, ast.Constant) and node.value is None:
        return "null"
    return ast.unparse(node)


def _value(module: Module, node: ast.expr) -> Any:
    """Return a default; a constant's name is resolved to its value."""
    found = look_up(module, node.id) if isinstance(node, ast.Name) else None
    try:
        return ast.literal_eval(found.node if found and isinstance(found.node, ast.expr) else node)
    except ValueError:
        return Code(ast.unparse(node))


def _members(node: ast.ClassDef) -> Iterator[tuple[str, bool]]:
    """Give what a class defines, and whether it is abstract."""
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef):
            yield statement.name, any(ast.unparse(mark) == "abstractmethod" for mark in statement.decorator_list)
        yield from ((name, False) for name, _ in assigned(statement))


def _parameters(lineage: Sequence[ClassSource]) -> dict[str, _Parameter]:
    if not lineage:
        return {}
    kind, *bases = lineage
    inits = [node for node in kind.node.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"]
    if not inits:
        return _parameters(bases) | (dict(_fields(kind)) if _is_dataclass(kind.node) else {})
    own = dict(_arguments(kind.module, inits[0].args))
    if inits[0].args.kwarg is None:
        return own
    return own | {name: value for name, value in _handed_on(inits[0], _parameters(bases)).items() if name not in own}


def _arguments(module: Module, arguments: ast.arguments) -> Iterator[tuple[str, _Parameter]]:
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults = [*[None] * (len(plain) - len(arguments.defaults)), *arguments.defaults, *arguments.kw_defaults]
    for argument, default in islice(zip([*plain, *arguments.kwonlyargs], defaults, strict=True), 1, None):
        yield argument.arg, _Parameter(module, argument.annotation, default)


def _handed_on(init: ast.FunctionDef, inherited: dict[str, _Parameter]) -> dict[str, _Parameter]:
    """Return the bases' arguments without those that ``super().__init__(...)`` is given by name or place."""
    for call in (node for node in ast.walk(init) if isinstance(node, ast.Call)):
        if ast.unparse(call.func) == "super().__init__":
            places = [value for value in call.args if not isinstance(value, ast.Starred)]
            given = {*islice(inherited, len(places)), *(keyword.arg for keyword in call.keywords)}
            return {name: value for name, value in inherited.items() if name not in given}
    return inherited


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any(ast.unparse(mark).startswith("dataclass") for mark in node.decorator_list)


def _fields(kind: ClassSource) -> Iterator[tuple[str, _Parameter]]:
    annotated = (node for node in kind.node.body if isinstance(node, ast.AnnAssign))
    for node in annotated:
        if isinstance(node.target, ast.Name) and not ast.unparse(node.annotation).startswith("ClassVar"):
            yield node.target.id, _Parameter(kind.module, node.annotation, node.value)
