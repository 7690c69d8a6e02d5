"""``list``: the available classes and configs, and the details of one."""

import shutil
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from kd_lightning.arguments import PlainParser
from kd_lightning.errors import UserError
from kd_lightning.listing import text
from kd_lightning.listing.configs import find_shown, shipped_configs
from kd_lightning.listing.kinds import KINDS, find_entry, kinds_with
from kd_lightning.wording import did_you_mean, shown

NAMES = (*KINDS, text.CONFIGS)


def main(args: Sequence[str]) -> int:
    """Print everything, one kind, or one class or config.

    Raises:
        UserError: There is no such kind, class or config.
    """
    parser = PlainParser(
        prog="kd-lightning list",
        description="Show losses, networks, teachers, tasks, data sources, augmentations and configs.",
        epilog=f"{text.MORE} A class of your own has its import path: `list losses my_losses.MyLoss`.",
        allow_abbrev=False,
    )
    parser.add_argument("kind", nargs="?", metavar="KIND", help=f"one of {', '.join(NAMES)} (default: all)")
    parser.add_argument("name", nargs="?", metavar="NAME", help="one of that kind, by its name or short name")
    options = parser.parse_args(list(args[1:]))
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print("\n".join(map(shown, _lines(options.kind, options.name, width))))
    return 0


def _lines(kind: str | None, name: str | None, width: int | None) -> Sequence[str]:
    if kind is None:
        return list(text.all_kinds(width))
    if kind not in NAMES:
        raise UserError(f"there is no kind '{kind}' to list{_meant(kind)}; choose one of {', '.join(NAMES)}.")
    if name is None:
        return text.one_kind(kind, width)
    if kind == text.CONFIGS:
        config = find_shown(name)
        return [*config.text.splitlines(), "", f"run it: {config.command}"]
    return text.one_class(find_entry(name, kind), width)


def _meant(kind: str) -> str:
    """Return a hint for an unknown kind: the name of a class or config, or another spelling."""
    owners = kinds_with(kind)
    if any(kind in (config.name, Path(config.name).stem) for config in shipped_configs()):
        owners.append(text.CONFIGS)
    return did_you_mean([f"`list {owner} {kind}`" for owner in owners] or get_close_matches(kind, NAMES, 1))
