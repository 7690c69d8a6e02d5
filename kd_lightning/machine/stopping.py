"""Ctrl-C and SIGTERM: one sentence and the status that shells expect (130, 143), whatever a command is doing.

A command ends in the signal's handler. An exception raised there, as Python's KeyboardInterrupt, can come out inside of
a library's C++ code, which answers it by aborting. Files are written beside their places and renamed, so nothing that
has its name is ever half-written.

Python calls a handler when the main thread is back from C++, which may be never: a process waits half an hour for one
that it has lost. So a thread counts the signals, too, and a second one ends the process whatever the main thread does.
Only C++ that keeps the interpreter's lock stops that thread; SIGKILL ends that.
"""

import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import NoReturn, TextIO

SIGNALS = (signal.SIGINT, signal.SIGTERM)
NAMES = {int(signal.SIGINT): "Ctrl-C", int(signal.SIGTERM): "SIGTERM"}
AGAIN = "what was not finished is not kept, and the same command starts again."
MAIN = "KD_LIGHTNING_MAIN"
"""Tells the processes that Lightning starts beside this one which is the first."""
POLL_SECONDS = 0.1
HANDLER_SECONDS = 0.5
"""How long a second signal's handler, which also prints what was not printed yet, has the right of way."""
SHOW_CURSOR = b"\x1b[?25h"
"""A progress bar may have hidden it."""

ResumeHint = Callable[[], str]
"""Says what is kept of a command that is stopped, and how to go on."""


@dataclass
class _Command:
    process: int
    follows: bool
    resume_hint: ResumeHint
    then: str = ""


unfinished: set[Path] = set()
"""Temporary files and folders of this process, which are removed when it is stopped."""

_running: list[_Command] = []


@contextmanager
def stoppable() -> Iterator[None]:
    """Let signals end this process with a sentence while a command runs; those that are ignored stay so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    _running.append(_Command(os.getpid(), _follows(), lambda: AGAIN))
    main = os.environ.get(MAIN)
    if _running[-1].follows:
        threading.Thread(target=_end_with_main, daemon=True).start()
    else:
        os.environ[MAIN] = str(os.getpid())
    reinstall_handlers()
    try:
        with _second_signal_ends():
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _running.pop()
        if main is None:
            os.environ.pop(MAIN, None)


def reinstall_handlers() -> None:
    """Listen to the signals again, where a command runs and Lightning has put a handler of its own before ours."""
    if _running:
        for number in listened_to():
            signal.signal(number, stop_at_once)


def listened_to() -> list[signal.Signals]:
    """Return the signals that this process was not started to ignore, as one in the background ignores Ctrl-C."""
    return [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]


def set_resume_hint(hint: ResumeHint) -> None:
    """Choose what is said when the running command is stopped from now on."""
    if _running:
        _running[-1].resume_hint = resume_hint


@contextmanager
def followed_by(then: str) -> Iterator[None]:
    """Have a sentence said behind how to go on, while the running command does a part of what was asked for."""
    if _running:
        _running[-1].then = then
    yield
    if _running:
        _running[-1].then = ""


def then() -> str:
    """Return what is to be done behind going on; nothing where the running command is all that was asked for."""
    return _running[-1].then if _running else ""


def resume_hint() -> str:
    """Return what is kept of the running command, and how to go on."""
    return _running[-1].resume_hint() if _running else AGAIN


def status(number: int) -> int:
    """Return the exit status of a command that a signal stopped."""
    return 128 + number


def stop_at_once(number: int, frame: FrameType | None = None) -> None:
    """End this process, with a sentence where it is the one that speaks; forks of it end silently."""
    _end(number, (sys.stdout, sys.stderr))


def _end(number: int, streams: Sequence[TextIO] = ()) -> NoReturn:
    """End this process, and print before what the streams hold back."""
    if _running and _running[-1].process == os.getpid():
        for path in list(unfinished):
            _remove(path)
        if speaks():
            for stream in streams:
                with suppress(Exception):
                    stream.flush()
            write(f"Stopped by {NAMES[number]}; {resume_hint()}")
    os._exit(status(number))


@contextmanager
def _second_signal_ends() -> Iterator[None]:
    """Have the system's own handler, which waits for nobody, write each signal's number to a thread."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_end_at_second, args=(reader,), daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        writer.close()


def _end_at_second(reader: socket.socket) -> None:
    with reader:
        signals = (number[0] for number in iter(lambda: reader.recv(1), b"") if number[0] in NAMES)
        if len(numbers := list(islice(signals, 2))) == 2:
            time.sleep(HANDLER_SECONDS)
            _end(numbers[1])


def _leave_to_parent() -> None:
    """Keep a fork's signals from counting as its parent's."""
    if _running:
        signal.set_wakeup_fd(-1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


def write(sentence: str) -> None:
    """Write a line to standard error from a signal's handler, which ``print`` does not allow while it is at work."""
    with suppress(OSError):
        os.write(2, (SHOW_CURSOR + b"\n" if os.isatty(2) else b"") + sentence.encode(errors="replace") + b"\n")


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def speaks() -> bool:
    """Whether this process is the first of those that train together."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))


def wait_for_rank_zero(seconds: float) -> None:
    """Give the first of several processes time to end, and this one with it: it speaks for all.

    It, or the launcher of both, would take an early end of this one for a crash.
    """
    if _running and (_running[-1].follows or not speaks()):
        time.sleep(seconds)


def _follows() -> bool:
    """Whether Lightning started this process beside the one that the user started."""
    return os.environ.get(MAIN) == str(os.getppid())


def _end_with_main() -> None:
    while _follows():
        time.sleep(POLL_SECONDS)
    os._exit(1)
