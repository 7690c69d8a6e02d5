"""The command line: one table of commands; each is imported only when it is called."""

import io
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path

from kd_lightning.errors import UserError
from kd_lightning.files import disk_full_message
from kd_lightning.machine import stopping
from kd_lightning.wording import shown_lines

COMMANDS: dict[str, tuple[str, str]] = {
    "fit": (
        "kd_lightning.commands.fit",
        "train a network, with or without a teacher; test, export, summarize",
    ),
    "validate": ("kd_lightning.commands.fit", "measure a checkpoint on the validation images"),
    "test": ("kd_lightning.commands.fit", "measure a checkpoint on the test images"),
    "compare": (
        "kd_lightning.commands.compare",
        "run a study over several random seeds, with tests of significance",
    ),
    "list": (
        "kd_lightning.commands.list",
        "show losses, networks, teachers, tasks, data, configs; or one in detail",
    ),
    "benchmark": (
        "kd_lightning.commands.benchmark",
        "measure the time of training on this machine, part by part",
    ),
    "predict": ("kd_lightning.commands.predict", "classify image files and folders with a trained model"),
    "data": ("kd_lightning.commands.data", "describe a data source, with a sheet of example images"),
    "stats": ("kd_lightning.commands.stats", "print the exact mean and standard deviation of a data source's channels"),
    "export": ("kd_lightning.commands.export", "write the ONNX files of a trained model"),
}
"""Each command's module, which has a ``main(args)``, and its help."""

PLAIN = ("predict", "list")
"""Commands with a parser that is quick by itself."""

USAGE = """usage: kd-lightning COMMAND [OPTION ...]

Knowledge distillation with PyTorch Lightning.

commands:
{commands}

`kd-lightning COMMAND --help` shows a command's options.
First run, without any download: kd-lightning fit --config quickstart.yaml"""

NOT_LIGHT = ("docstring_parser", "jsonargparse", "lightning", "matplotlib", "scipy", "torch", "torchmetrics", "yaml")
"""Libraries that an installation without PyTorch lacks, which is enough to predict by ONNX files."""


def script() -> int:
    """Run the program ``kd-lightning``: it finds the user's own modules in the working folder, after installed ones."""
    if not sys.flags.safe_path:
        sys.path.append(str(Path.cwd()))
    return main()


def main(args: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status: 0, or 2 for a mistake that the user can fix.

    Ctrl-C and SIGTERM end the process, with 130 and 143.
    """
    with stopping.stoppable():
        return _status(list(sys.argv[1:] if args is None else args))


def _status(args: list[str]) -> int:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name may have characters that the terminal lacks
    try:
        return _main(args)
    except UserError as error:
        stopping.wait_for_rank_zero(seconds=10)  # where all processes fail alike, one prints
        print(f"error: {shown_lines(error)}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of our output, as in `| head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in NOT_LIGHT:
            raise
        print(f"error: {_needs_all(args[0], missing)}", file=sys.stderr)
        return 2
    except Exception as error:
        if (sentence := disk_full_message(error)) is None:
            raise
        print(f"error: {shown_lines(sentence)}", file=sys.stderr)
        return 2


def _main(args: list[str]) -> int:
    if not args or args[0] in ("-h", "--help"):
        print(usage(), flush=True)
        return 0 if args else 2
    if args[0] == "--version":
        print(import_module("importlib.metadata").version("kd_lightning"))
        return 0
    return _run(args)


def usage() -> str:
    """Return the help text that lists every command."""
    width = max(map(len, COMMANDS)) + 2
    return USAGE.format(commands="\n".join(f"  {name:{width}}{text}" for name, (_, text) in COMMANDS.items()))


def _run(args: list[str]) -> int:
    """Print a command's help, or run it; mistakes in names are answered before its libraries are imported."""
    if args[0] not in COMMANDS:
        near = get_close_matches(args[0], COMMANDS, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(COMMANDS)}."
        raise UserError(f"there is no command '{args[0]}'; {remedy}")
    if args[0] not in PLAIN:
        from kd_lightning.usage.first_look import check_arguments
        from kd_lightning.usage.help import ASKED, short_help

        if (text := short_help(args, _width())) is not None:
            print(text, flush=True)
            return 0
        if set(args) & set(ASKED):
            args = [args[0], "--help"]
        else:
            check_arguments(args)
    command: Callable[[Sequence[str]], int] = import_module(COMMANDS[args[0]][0]).main
    return command(args)


def _width() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else 80


def _needs_all(command: str, missing: str) -> str:
    return (
        f"`{command}` needs PyTorch and more ({missing} is not installed): `pip install kd_lightning`; without it, "
        "only `kd-lightning predict IMAGE --model FILE.onnx` works."
    )
