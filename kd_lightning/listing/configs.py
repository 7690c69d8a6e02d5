"""The configs that come with the project."""

import re
from pathlib import Path
from typing import NamedTuple

from kd_lightning.training.config_files import SHIPPED, find_config


class Config(NamedTuple):
    """A config.

    Attributes:
        name: Its file's name.
        what: What it is: the first line of comment that is no command.
        command: What runs it.
        text: The whole file.
    """

    name: str
    what: str
    command: str
    text: str


def shipped_configs() -> list[Config]:
    """Return all configs that come with the project, by name."""
    return [read_config(path) for path in sorted(SHIPPED.glob("*.yaml"))]


def find_shown(name: str) -> Config:
    """Find a config as ``fit`` does, with or without its ending.

    Raises:
        UserError: There is none.
    """
    return read_config(find_config(name if Path(name).suffix else f"{name}.yaml"))


def read_config(path: Path) -> Config:
    """Read a config and what its first lines say of it."""
    text = path.read_text(encoding="utf-8", errors="replace")
    comments = re.findall(r"# ?(.*)\n", (re.match(r"(?:#.*\n)*", text) or [""])[0])
    commands = [line for line in comments if line.startswith("python -m ")]
    others = [line for line in comments if line not in commands]
    command = commands[0] if commands else f"python -m kd_lightning fit --config {path.name}"
    return Config(path.name, others[0] if others else "", command, text)
