"""The command line: one table of commands; each is imported only when it is called."""

import io
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

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
        "show losses, networks, tasks, data, augmentations, configs; or one in detail",
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

USAGE = """usage: python -m kd_lightning COMMAND [OPTION ...]

Knowledge distillation with PyTorch Lightning.

commands:
{commands}

`python -m kd_lightning COMMAND --help` lists a command's options.
First run, without any download: python -m kd_lightning fit --config quickstart.yaml"""


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
    return _command(args[0])(args)


def usage() -> str:
    """Return the help text that lists every command."""
    width = max(map(len, COMMANDS)) + 2
    return USAGE.format(commands="\n".join(f"  {name:{width}}{text}" for name, (_, text) in COMMANDS.items()))


def _command(name: str) -> Callable[[Sequence[str]], int]:
    if name not in COMMANDS:
        raise UserError(f"there is no command '{name}'; choose one of {', '.join(COMMANDS)}.")
    command: Callable[[Sequence[str]], int] = import_module(COMMANDS[name][0]).main
    return command
