"""What `list` prints of kinds, classes and configs, line by line, for a terminal of any width."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import wrap

from kd_lightning.listing.classes import REQUIRED, one_line
from kd_lightning.listing.configs import Config, shipped_configs
from kd_lightning.listing.kinds import KINDS, Entry, entries
from kd_lightning.listing.snippet import plain, snippet

MIN_WIDTH = 30
"""Fewest characters of a column of text, in a terminal of any width."""

CONFIGS = "configs"

MORE = "`list KIND` shows one kind, `list KIND NAME` one of it: `list losses kd`, `list configs quickstart`."


def all_kinds(width: int | None) -> Iterator[str]:
    """Give all kinds with their classes, and the configs.

    Args:
        width: Characters of a line; ``None`` breaks no line, for a file or another program.
    """
    for kind in (*KINDS, CONFIGS):
        yield from (f"{kind}:", *(f"  {line}" for line in one_kind(kind, width and width - 2)), "")
    yield from filled(MORE, width)


def one_kind(kind: str, width: int | None) -> list[str]:
    """Return the names of a kind with their lines, in columns."""
    if kind == CONFIGS:
        return columns([(config.name, config.what) for config in shipped_configs()], width)
    found = entries(KINDS[kind])
    shorts = max(len(entry.short) for entry in found)
    name = max(len(entry.source.name) for entry in found)
    rows = [(f"{entry.source.name:{name}}  {entry.short:{shorts}}".rstrip(), entry.source.title) for entry in found]
    return columns(rows, width)


def one_config(config: Config) -> list[str]:
    """Return a config and what runs it."""
    return [*config.text.splitlines(), "", f"run it: {config.command}"]


def one_class(entry: Entry, width: int | None) -> list[str]:
    """Return a class's description, options, config and source."""
    source = entry.source
    short = f" ({entry.short})" if entry.short else ""
    lines = [*filled(f"{entry.class_path}{short}: {source.title}", width), ""]
    for paragraph in re.split(r"\n\s*\n", source.docstring.long_description or ""):
        lines += [*filled(one_line(paragraph), width), ""] if paragraph.strip() else []
    if entry.options:
        lines += ["options:", *(f"  {line}" for line in _options(entry, width and width - 2)), ""]
    lines += ["in a config:", *(f"  {line}" for line in snippet(entry).splitlines()), ""]
    return [*lines, f"source: {_from_here(source.module.path)}"]


def _from_here(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _options(entry: Entry, width: int | None) -> list[str]:
    rows = []
    for name, kind, default, text in entry.options:
        value = "must be given" if default is REQUIRED else f"default: {plain(default)}"
        rows.append((name, f"{text} ({kind}; {value})"))
    return columns(rows, width)


def columns(rows: Sequence[tuple[str, str]], width: int | None) -> list[str]:
    """Return names and texts side by side; in a narrow terminal, a text is under its name."""
    left = max(len(name) for name, _ in rows) + 2
    if width is not None and width - left < MIN_WIDTH:
        return [line for name, text in rows for line in (name, *(f"  {part}" for part in filled(text, width - 2)))]
    lines = []
    for name, text in rows:
        first, *others = filled(text, width and width - left) or [""]
        lines += [f"{name:{left}}{first}".rstrip(), *(" " * left + other for other in others)]
    return lines


def filled(text: str, width: int | None) -> list[str]:
    """Return a text in lines of a width; a formula or an address is not cut."""
    if width is None:
        return [text]
    uncut = re.sub(r"`[^`]*`", lambda formula: formula[0].replace(" ", "\0"), text)
    lines = wrap(uncut, max(width, MIN_WIDTH // 2), break_long_words=False, break_on_hyphens=False)
    return [line.replace("\0", " ") for line in lines]
