"""Untrusted YAML: a bound on its size, as aliases can expand to gigabytes, and no key that is given twice."""

from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import get_loader, set_loader

from kd_lightning.errors import UserError
from kd_lightning.wording import shortened, shown

MAX_BYTES, MAX_VALUES = 2**18, 20_000
"""Of a config: 256 KiB, and values with every alias written out; a run's own config has 200 values."""

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MERGE = "tag:yaml.org,2002:merge"


def read_yaml(path: Path) -> dict[Any, Any]:
    """Read a config or a study as plain values.

    Raises:
        UserError: It is not YAML, not a mapping, far larger than a config, or has a key twice.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES // 1024} KiB")
        check_yaml(text.decode(), f"the config {path}")
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


def check_yaml(text: str, name: str) -> None:
    """Refuse YAML that expands to more than ``MAX_VALUES``, or that has a key twice, of which readers drop the first.

    Args:
        text: YAML. A key that a merge (``<<``) brings may be given again.
        name: The name of its source, for the message.

    Raises:
        UserError: It has too many values, or a mapping has a key twice.
        yaml.YAMLError: It is not YAML.
    """
    document = yaml.compose(text, LOADER)
    if document is not None and _values(document, name, {}) > MAX_VALUES:
        raise UserError(f"{name} has more than {MAX_VALUES:,} values, aliases included; shorten it.")


def _values(node: yaml.Node, name: str, known: dict[int, int]) -> int:
    """Return the number of values in a node with every alias written out; one that contains itself has too many."""
    if id(node) in known or not isinstance(node, yaml.CollectionNode):
        return known.get(id(node), 1)
    known[id(node)] = MAX_VALUES + 1
    if isinstance(node, yaml.MappingNode):
        _check_keys([key for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.tag != MERGE], name)
    children = chain(*node.value) if isinstance(node, yaml.MappingNode) else node.value
    known[id(node)] = 1 + sum(_values(child, name, known) for child in children)
    return known[id(node)]


def _check_keys(keys: list[yaml.ScalarNode], name: str) -> None:
    given = set[tuple[str, str]]()
    for key in keys:
        if (key.tag, key.value) in given:
            raise UserError(
                f"{name} has '{shown(key.value)}' twice in one mapping, again in line {key.start_mark.line + 1}; "
                "remove or rename one of the two."
            )
        given.add((key.tag, key.value))


def _load_value(text: str) -> Any:
    """Read YAML as the parser does, but checked: an option's value, or a part of a config."""
    with suppress(yaml.YAMLError):  # the parser reports what is wrong
        check_yaml(text, f"the value {shortened(shown(text), 100)}")
    return _parser_load(text)


_parser_load = get_loader("yaml")
set_loader("yaml", _load_value, (yaml.YAMLError,))
