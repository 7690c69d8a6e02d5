"""The configs that come with the project."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

from kd_lightning.training.config_files import SHIPPED, find_config


class Config(NamedTuple):
    """A config.

    Attributes:
        name: What ``--config`` finds it by.
        what: What it is: the first line of comment that is not a command.
        command: What runs it: the first line of comment that is a command, or plain ``fit`` or ``compare``.
        text: The whole file.
    """

    name: str
    what: str
    command: str
    text: str


def shipped_configs() -> list[Config]:
    """Return all configs that come with the project, by name."""
    return [_read(path, path.name) for path in sorted(SHIPPED.glob("*.yaml"))]


def find_shown(name: str) -> Config:
    """Find a config as ``fit`` does, with or without its ending.

    Raises:
        UserError: There is none.
    """
    named = name if Path(name).suffix else f"{name}.yaml"
    return _read(find_config(named), named)


def _read(path: Path, name: str) -> Config:
    text = path.read_text(encoding="utf-8", errors="replace")
    comments = re.findall(r"# ?(.*)\n", re.split(r"^(?!#)", text, maxsplit=1, flags=re.MULTILINE)[0])
    runs = "compare" if re.search(r"^(compared:|baseline: *(\{|$))", text, re.MULTILINE) else "fit"
    command = f"kd-lightning {runs} --config {shlex.quote(name)}"
    commands = [line for line in comments if line.startswith(("kd-lightning ", "python -m "))]
    others = [line for line in comments if line not in commands]
    return Config(name, [*others, ""][0], [*commands, command][0], text)
