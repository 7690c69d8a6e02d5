"""The whole name of an option, of which the parser's report names only some parts."""

import ast
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

MAX_CHARACTERS = 100_000
"""Characters of a value that are read at most: it is untrusted."""


def whole_path(keys: Sequence[str], message: str, leaf: str | None = None) -> str:
    """Return an option's name with the entries of mappings that the report omits, such as a loss's name.

    Args:
        keys: The keys in the report, from the outermost to the wrong one.
        message: The report; it ends with the outermost key's value.
        leaf: The wrong value as printed, where it is known.
    """
    given = _given(message)
    path = next(iter(sorted(_paths(given, keys[1:], leaf), key=len)), None) if given is not None else None
    return ".".join([keys[0], *path]) if path is not None else ".".join(keys)


def _given(message: str) -> Any:
    """Return the outermost value that was given, as plain values."""
    found = re.findall(r"Given value: (.*)", message)
    if not found or len(found[-1]) > MAX_CHARACTERS:
        return None
    text = re.sub(r"<function [^>]*>", "None", found[-1].strip())  # the text of such a default is not an expression
    with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        return _plain(ast.parse(text, mode="eval").body)
    return None


def _plain(node: ast.expr) -> Any:
    """Turn a value's printed form into mappings, lists and constants, without calling anything."""
    if isinstance(node, ast.Dict):
        return {_plain(key): _plain(value) for key, value in zip(node.keys, node.values, strict=True) if key}
    if isinstance(node, ast.List | ast.Tuple):
        return [_plain(item) for item in node.elts]
    if isinstance(node, ast.Call):
        values = {keyword.arg: _plain(keyword.value) for keyword in node.keywords if keyword.arg}
        return _nested(values["key"].split("."), values["val"]) if values.keys() == {"key", "val"} else values
    return ast.literal_eval(node)


def _nested(keys: Sequence[str], value: Any) -> Any:
    """Return ``{a: {b: value}}`` for the option ``a.b``."""
    return {keys[0]: _nested(keys[1:], value)} if keys else value


def _paths(value: Any, keys: Sequence[str], leaf: str | None) -> Iterator[list[str]]:
    """Yield the paths to the last key, or to the wrong value, through entries that the keys omit."""
    if isinstance(value, dict) and "init_args" in value and keys:
        value = value["init_args"]
    if not keys and leaf in (None, str(value)):
        yield []
    elif isinstance(value, dict):
        for name, item in value.items():
            if keys and name == keys[0]:
                yield from ([name, *rest] for rest in _paths(item, keys[1:], leaf))
            elif name == "class_path":
                yield from [[]] if not keys and str(item) == leaf else []
            else:
                yield from ([str(name), *rest] for rest in _paths(item, keys, leaf))
    elif isinstance(value, list):
        for item in value:
            yield from _paths(item, keys, leaf)
