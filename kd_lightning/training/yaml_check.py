"""YAML files of whoever's, looked through before they are built: a few lines of anchors can mean gigabytes."""

from pathlib import Path
from typing import Any

import yaml

from kd_lightning.errors import UserError
from kd_lightning.wording import shown

MOST_BYTES, MOST_VALUES, MOST_LEVELS = 2**18, 20_000, 50
"""Of a config: 256 KiB, and values and levels with every alias written out; a run's own config has 200 values."""


def read_yaml(path: Path) -> dict[Any, Any]:
    """Read a config or a study as plain values.

    Raises:
        UserError: It is no YAML, no mapping, far larger than a config is, or has half a letter or a zero byte.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1).decode()
        if len(text) > MOST_BYTES:
            raise ValueError(f"it has more than {MOST_BYTES // 1024} KiB")
        _check_size(text)
        content = yaml.safe_load(text)
        if not isinstance(content, dict):
            raise ValueError("it has no `key: value`")
        return content
    except Exception as error:  # PyYAML raises nearly anything: IndexError, OverflowError, RecursionError
        place = getattr(error, "problem_mark", None)
        line = f" in line {place.line + 1}" if place else ""
        reason = f" ({shown(error)})" if type(error) is ValueError else ""
        raise UserError(f"the config {path} is no valid YAML{line}{reason}; mend it.") from error


def _check_size(text: str) -> None:
    """Count values and levels from the parser's events, which come one at a time; an alias counts all that it means."""
    values, open_nodes = 0, [("", 0)]
    sizes: dict[str, int] = {}
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            values += sizes[str(event.anchor)]
        elif isinstance(event, yaml.NodeEvent):
            values += 1
        if isinstance(event, yaml.ScalarEvent) and not _is_text(event.value):
            raise ValueError(f"it has half a letter or a zero byte in {event.value[:40]!r}")
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor or "", values - 1))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            sizes[anchor] = values - before
        elif isinstance(event, yaml.ScalarEvent):
            sizes[event.anchor or ""] = 1
        if values > MOST_VALUES or len(open_nodes) > MOST_LEVELS:
            raise ValueError(f"it has more than {MOST_VALUES:,} values or {MOST_LEVELS} levels, aliases included")


def _is_text(value: str) -> bool:
    return "\0" not in value and not any("\ud800" <= letter <= "\udfff" for letter in value)
