"""What `list` prints of kinds, classes and configs, line by line, for a terminal of any width."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import wrap

from kd_lightning.listing.classes import REQUIRED, one_line
from kd_lightning.listing.configs import shipped_configs
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
        yield from (f"{kind}:", *one_kind(kind, width, indent=2), "")
    yield from filled(MORE, width)


def one_kind(kind: str, width: int | None, indent: int = 0) -> list[str]:
    """Return the names of a kind with their lines, in columns."""
    if kind == CONFIGS:
        return columns([(config.name, config.what) for config in shipped_configs()], width, indent)
    sources = [entry.source for entry in entries(KINDS[kind])]
    name, short = max(len(source.name) for source in sources), max(len(source.short) for source in sources)
    rows = [(f"{source.name:{name}}  {source.short:{short}}".rstrip(), source.title) for source in sources]
    return columns(rows, width, indent)


def one_class(entry: Entry, width: int | None) -> list[str]:
    """Return a class's description, options, config and source."""
    source, path = entry.source, entry.source.module.path
    short = f" ({source.short})" if source.short else ""
    description = re.split(r"\n\s*\n", source.docstring.long_description or "")
    texts = [f"{entry.class_path}{short}: {source.title}", *map(one_line, filter(str.strip, description))]
    lines = [line for text in texts for line in (*filled(text, width), "")]
    if entry.options:
        lines += ["options:", *_options(entry, width), ""]
    lines += ["in a config:", *(f"  {line}" for line in snippet(entry).splitlines()), ""]
    return [*lines, f"source: {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}"]


def _options(entry: Entry, width: int | None) -> list[str]:
    rows = []
    for name, kind, default, text in entry.options:
        value = "must be given" if default is REQUIRED else f"default: {plain(default)}"
        rows.append((name, f"{text} ({kind}; {value})"))
    return columns(rows, width, indent=2)


def columns(rows: Sequence[tuple[str, str]], width: int | None, indent: int) -> list[str]:
    """Return names and texts side by side; in a narrow terminal, a text is under its name."""
    left = indent + max(len(name) for name, _ in rows) + 2
    narrow = width is not None and width - left < MIN_WIDTH
    lines = []
    for name, text in rows:
        head = " " * indent + name
        first, *others = filled(text, width, indent + 2 if narrow else left) or [""]
        lines += [head, first, *others] if narrow else [(head + first[len(head) :]).rstrip(), *others]
    return lines


def filled(text: str, width: int | None, indent: int = 0) -> list[str]:
    """Return a text in lines of a width; a formula or an address is not cut."""
    before = " " * indent
    if width is None:
        return [before + text]
    uncut = re.sub(r"`[^`]*`", lambda formula: formula[0].replace(" ", "\0"), text)
    wrapped = wrap(
        uncut,
        max(width, indent + MIN_WIDTH // 2),
        initial_indent=before,
        subsequent_indent=before,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace("\0", " ") for line in wrapped]
