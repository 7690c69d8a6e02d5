"""Errors of Lightning and torch for a user's mistake become one sentence; a bug, anyone's, keeps its traceback."""

import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from lightning.pytorch import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.profilers import Profiler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kd_lightning.errors import UserError
from kd_lightning.files import disk_full_message
from kd_lightning.training.processes import lost_process

KEYS: dict[type, str] = {
    Optimizer: "--model.optimizer",
    LRScheduler: "--model.lr_scheduler",
    Callback: "--trainer.callbacks",
    Logger: "--trainer.logger",
    Profiler: "--trainer.profiler",
}
"""The option whose object raised an error."""

BESIDE_TRAINING = (Callback, Logger, Profiler)
"""Objects that compute nothing of a step: an error in Lightning's own, or in their calls, is about their settings."""

CHECKS = ("lightning", "lightning_utilities", "torch.optim")
"""Modules whose errors are about settings: they check them, and compute little."""

LIBRARIES = ("kd_lightning", "lightning", "lightning_utilities", "torch", "torchmetrics", "jsonargparse", "numpy")
"""Libraries, whose code is not the user's, beside Python's own."""

NO_DEVICE = ("No supported gpu backend found", "can not run on your system since the accelerator is not available")
NO_MEMORY = ("can't allocate memory", "out of memory", "not enough memory")


@contextmanager
def explained() -> Iterator[None]:
    """Raise ``UserError`` for errors of libraries about options that do not fit each other, this machine or the data.

    Errors of the user's networks, callbacks and data sources keep their type, and so do our bugs.
    """
    try:
        yield
    except Exception as error:
        root = cause_of(error)
        if mistake := _mistake(root):
            raise mistake from error
        if root is not error:
            raise root from None  # the parser's error around it is pages long
        raise


def cause_of(error: Exception) -> Exception:
    """Return the user's mistake that an error was raised from, or the error inside of the parser's own errors."""
    while not isinstance(error, UserError) and _raised_in(_frames(error), "jsonargparse"):
        inner = error.__cause__ or error.__context__
        if not isinstance(inner, Exception):
            break
        error = inner
    return error


def _mistake(error: Exception) -> UserError | None:
    """Return the sentence for an error about settings; ``None`` for those of the user's code, and for our bugs."""
    if isinstance(error, UserError):
        return error
    reason = " ".join(str(error.args[0] if isinstance(error, KeyError) else error).split()).rstrip(".!?")
    if isinstance(error, MemoryError) or any(words in reason for words in NO_MEMORY):
        return UserError(
            f"memory ran out ({reason or 'none is left'}): take a smaller --data.batch_size, --data.eval_batch_size or "
            "network."
        )
    frames = _frames(error)
    at = _owner(frames)
    if disk_full_message(error) or lost_process(error) or not _is_about_settings(frames, at):
        return None
    reason = reason or type(error).__name__
    if at is None and any(words in reason for words in NO_DEVICE):
        return UserError(
            "--trainer.accelerator asks for a device that PyTorch does not find here; leave it out, or write cpu."
        )
    if at is None:
        return UserError(f"the --trainer options do not fit each other or this machine: {reason}.")
    owner = frames[at].f_locals["self"]
    key = next(key for kind, key in KEYS.items() if isinstance(owner, kind))
    return UserError(f"{type(owner).__name__} in {key} cannot work with its settings: {reason}.")


def _is_about_settings(frames: Sequence[FrameType], at: int | None) -> bool:
    """Return whether an error is about settings, rather than about the user's code or a bug of ours."""
    owner = None if at is None else frames[at].f_locals["self"]
    if isinstance(owner, BESIDE_TRAINING) and type(owner).__module__.startswith("lightning."):
        if any(_module(frame).startswith("kd_lightning.") for frame in frames[at:]):
            return False
        return not any(
            map(_is_users, frames[:at] if isinstance(owner, Logger) else frames)
        )  # wandb, mlflow and the like
    return not any(map(_is_users, frames)) and any(_raised_in(frames, module) for module in CHECKS)


def _owner(frames: Sequence[FrameType]) -> int | None:
    """Return the place of the innermost frame that runs a method of an object that an option names."""
    places = reversed(range(len(frames)))
    return next((place for place in places if isinstance(frames[place].f_locals.get("self"), tuple(KEYS))), None)


def _raised_in(frames: Sequence[FrameType], module: str) -> bool:
    """Return whether a module's code, or that of a submodule, raised an error."""
    own = [frame for frame in frames if frame.f_code.co_name != "__getattr__"]  # the caller's attribute is missing
    return bool(own) and f"{_module(own[-1])}.".startswith(f"{module}.")


def _is_users(frame: FrameType) -> bool:
    package = _module(frame).partition(".")[0]
    return package not in LIBRARIES and package not in sys.stdlib_module_names


def _frames(error: Exception) -> list[FrameType]:
    return [frame for frame, _ in traceback.walk_tb(error.__traceback__)]


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))
