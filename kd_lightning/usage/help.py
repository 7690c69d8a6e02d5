"""The help that is printed at once, without torch: one screen for a command, or one group of options."""

import ast
import re
from collections.abc import Sequence

from docstring_parser import DocstringStyle, parse

from kd_lightning.errors import UserError
from kd_lightning.listing import text
from kd_lightning.listing.classes import Option, one_line
from kd_lightning.listing.kinds import KINDS, find_entry
from kd_lightning.listing.snippet import plain
from kd_lightning.usage import names
from kd_lightning.usage.texts import TEXTS

ASKED = ("-h", "--help")
ALL = "all"
GROUPS = ("model", *KINDS, "trainer", "files")
"""Groups of options, as after ``--help``."""


def short_help(args: Sequence[str], width: int) -> str | None:
    """Return the help that a command is asked for.

    Args:
        args: The command and its arguments.
        width: Characters of a line.

    Returns:
        The text; ``None`` where no help is asked for, or that of the command's own parser: all of it.

    Raises:
        UserError: There is no such group.
    """
    command = args[0]
    place = next((index for index, word in enumerate(args) if word in ASKED), None)
    if place is None or command not in TEXTS:
        return None
    group = next(iter(args[place + 1 :]), "")
    if group == ALL:
        return None
    if not group or group.startswith("-"):
        return TEXTS[command]
    if group not in GROUPS:
        raise UserError(f"there is no group '{group}' of options; choose one of {', '.join(GROUPS)}, {ALL}.")
    return "\n".join(_group(group, width))


def _group(group: str, width: int) -> list[str]:
    if group == "model":
        return [*text.one_class(find_entry("Distill", "tasks"), width), "", *_see("tasks", width)]
    if group == "trainer":
        return _options("trainer", _trainer_options(), width)
    if group == "files":
        return _options("files", names.files_options(), width)
    return [*text.one_kind(group, width), "", *_see(group, width)]


def _see(kind: str, width: int) -> list[str]:
    example = f"kd-lightning list {kind} NAME"
    return text.filled(f"`kd-lightning list {kind}` shows all {kind}, `{example}` the options of one.", width)


def _options(group: str, options: Sequence[Option], width: int) -> list[str]:
    lines = []
    for option in options:
        about = f"{option.help} (default: {plain(option.default)})"
        lines += [f"--{group}.{option.name}", *text.filled(about, width, indent=4)]
    return lines


def _trainer_options() -> list[Option]:
    """Return the options of Lightning's trainer, each with the first sentence about it."""
    source = names.trainer_source()
    if source is None:
        raise UserError("Lightning's trainer is not found here; `kd-lightning fit --help all` has its options.")
    init = next(node for node in source.node.body if getattr(node, "name", "") == "__init__")
    assert isinstance(init, ast.FunctionDef)
    entries = parse(ast.get_docstring(init) or "", DocstringStyle.GOOGLE).params
    texts = {entry.arg_name: re.split(r"(?<=[.!])\s", one_line(entry.description))[0] for entry in entries}
    return [option._replace(help=texts.get(option.name, "")) for option in source.options]
