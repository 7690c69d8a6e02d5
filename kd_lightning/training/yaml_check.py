"""Checks of untrusted YAML before it is built: a few lines of anchors can expand to gigabytes."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader, set_loader

from kd_lightning.errors import UserError
from kd_lightning.wording import shortened, shown

MAX_BYTES, MAX_VALUES, MAX_LEVELS = 2**18, 20_000, 50
"""Of a config: 256 KiB, and values and levels with every alias written out; a run's own config has 200 values."""


def read_yaml(path: Path) -> dict[Any, Any]:
    """Read a config or a study as plain values.

    Raises:
        UserError: It is not YAML, not a mapping, far larger than a config, or has a key twice, a lone surrogate or a
            zero byte.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1).decode()
        if len(text) > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES // 1024} KiB")
        _check_size(text)
        check_keys(text, f"the config {path}")
        content = yaml.safe_load(text)
        if not isinstance(content, dict):
            raise ValueError("it has no `key: value`")
        return content
    except UserError:
        raise
    except Exception as error:  # PyYAML raises nearly anything: IndexError, OverflowError, RecursionError
        place = getattr(error, "problem_mark", None)
        line = f" in line {place.line + 1}" if place else ""
        reason = f" ({shown(error)})" if type(error) is ValueError else ""
        raise UserError(f"the config {path} is not valid YAML{line}{reason}; fix it.") from error


def _check_size(text: str) -> None:
    """Count values and levels from the parser's events, which come one at a time; an alias counts as all its values."""
    values, open_nodes = 0, [("", 0)]
    sizes: dict[str, int] = {}
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            values += sizes[str(event.anchor)]
        elif isinstance(event, yaml.NodeEvent):
            values += 1
        if isinstance(event, yaml.ScalarEvent) and not _is_text(event.value):
            raise ValueError(f"it has half a character (a lone surrogate) or a zero byte in {event.value[:40]!r}")
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor or "", values - 1))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            sizes[anchor] = values - before
        elif isinstance(event, yaml.ScalarEvent):
            sizes[event.anchor or ""] = 1
        if values > MAX_VALUES or len(open_nodes) > MAX_LEVELS:
            raise ValueError(f"it has more than {MAX_VALUES:,} values or {MAX_LEVELS} levels, aliases included")


def _is_text(value: str) -> bool:
    return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)


def check_keys(text: str, name: str) -> None:
    """Refuse a key that a mapping has twice: readers of YAML keep the last one and silently drop the other.

    Args:
        text: YAML. A key that a merge (``<<``) brings may be given again.
        name: The name of its source, for the message.

    Raises:
        UserError: There is one.
        yaml.YAMLError: It is not YAML.
    """
    repeated = min(_repeated(yaml.compose(text, _Loader), set()), key=lambda key: key.start_mark.line, default=None)
    if repeated is not None:
        raise UserError(
            f"{name} has '{shown(repeated.value)}' twice in one mapping, again in line {repeated.start_mark.line + 1}; "
            "remove or rename one of the two."
        )


def _repeated(node: yaml.Node | None, visited: set[int]) -> Iterator[yaml.ScalarNode]:
    """Yield the keys that their mapping has already; a node with several aliases is visited once."""
    if id(node) in visited or not isinstance(node, yaml.CollectionNode):
        return
    visited.add(id(node))
    keys = set[tuple[str, str]]()
    for child in node.value:
        key, value = child if isinstance(node, yaml.MappingNode) else (None, child)
        if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
            if (key.tag, key.value) in keys:
                yield key
            keys.add((key.tag, key.value))
        yield from _repeated(key, visited)
        yield from _repeated(value, visited)


def _load_value(text: str) -> Any:
    """Read YAML as the parser does, but refuse a key that is given twice: an option's value, or a part of a config."""
    with suppress(yaml.YAMLError):  # the parser reports what is wrong
        check_keys(text, f"the value {shortened(shown(text), 100)}")
    return _parser_load(text)


_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_parser_load = get_loader("yaml")
set_loader("yaml", _load_value, (yaml.YAMLError,))
