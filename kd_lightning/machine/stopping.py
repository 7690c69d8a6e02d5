"""Ctrl-C and SIGTERM: one sentence and the status that shells expect (130, 143), whatever a command is doing.

A command ends in the signal's handler. An exception raised there, as Python's KeyboardInterrupt, can come out inside of
a library's C++ code, which then aborts. Files are written to a temporary folder and renamed, so a file under its final
name is never half-written.

Python calls a handler when the main thread is back from C++, which may be never: a process waits half an hour for a
process that it has lost. So a thread counts the signals, too, and a second one ends the process whatever the main
thread does. Only C++ that holds the interpreter lock blocks that thread; then SIGKILL ends the process.
"""

import os
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import NoReturn

from kd_lightning.machine import slurm

SIGNALS = (signal.SIGINT, signal.SIGTERM)
NAMES = {int(signal.SIGINT): "Ctrl-C", int(signal.SIGTERM): "SIGTERM"}
OF_SLURM = getattr(signal, "SIGUSR1", None)
"""What SLURM sends before the time of a job is over, where the job asks for it by ``--signal=USR1@90``."""
AGAIN = "unfinished work is not kept; the same command starts again."
MAIN = "KD_LIGHTNING_MAIN"
"""The process id of the first process, for those that Lightning starts beside it."""
POLL_SECONDS = 0.1
HANDLER_SECONDS = 0.5
"""How long the thread waits for a second signal's handler, which also flushes the output."""
SHOW_CURSOR = b"\x1b[?25h"
"""A progress bar may have hidden it."""

ResumeHint = Callable[[], str]
"""Returns what is kept of a stopped command, and how to resume it."""


@dataclass
class _Command:
    process: int
    resume_hint: ResumeHint
    then: str = ""


unfinished: set[Path] = set()
"""Temporary folders of this process, which are removed when it is stopped."""

_running = _Command(0, lambda: AGAIN)
"""The command of this process; process 0 where none runs, as in a user's own program."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Let signals end this process with a sentence while a command runs; ignored signals stay ignored."""
    global _running
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    main = os.environ.get(MAIN)
    if main == str(parent := os.getppid()):
        end_with(parent)
    else:
        os.environ[MAIN] = str(os.getpid())
    before, _running = _running, _Command(os.getpid(), lambda: AGAIN)
    handlers = {number: signal.getsignal(number) for number in _signals()}
    reinstall_handlers()
    try:
        with _second_signal_ends():
            yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        _running = before
        if main is None:
            os.environ.pop(MAIN, None)


def end_with(parent: int) -> None:
    """End this process when its parent has ended, however: Lightning's children stay (its issue 2913)."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def reinstall_handlers() -> None:
    """Install the handlers again, where a command runs and Lightning has replaced them by its own."""
    if _running.process:
        for number in listened_to():
            signal.signal(number, stop_at_once)


def is_command() -> bool:
    """Return whether a command runs, rather than a user's own program."""
    return bool(_running.process)


def _signals() -> tuple[signal.Signals, ...]:
    """Return the signals that end a command; in a user's own program Lightning answers SLURM's."""
    return (*SIGNALS, OF_SLURM) if OF_SLURM and is_command() and slurm.job_id() else SIGNALS


def listened_to() -> list[signal.Signals]:
    """Return the signals that this process does not ignore, as a background process ignores Ctrl-C."""
    return [number for number in _signals() if signal.getsignal(number) is not signal.SIG_IGN]


def set_resume_hint(hint: ResumeHint) -> None:
    """Set the hint that is printed when the running command is stopped."""
    _running.resume_hint = hint


@contextmanager
def followed_by(then: str) -> Iterator[None]:
    """Append a sentence to the resume hint while the running command does a part of the requested work."""
    _running.then = then
    yield
    _running.then = ""


def then() -> str:
    """Return what to do after the resumed command; empty where it is all the requested work."""
    return _running.then


def resume_hint() -> str:
    """Return what is kept of the running command, and how to resume it."""
    return _running.resume_hint()


def sentence(number: int, kept: str) -> str:
    """Return how a stopped command ends; on SLURM's signal the first process lets SLURM run the job again.

    Args:
        number: The signal.
        kept: What is kept of it, and how to resume it.
    """
    if number != OF_SLURM:
        return f"Stopped by {NAMES[number]}; {kept}"
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # with which SLURM ends the job that it runs again
    job = slurm.job_id()
    if job is not None and is_rank_zero() and slurm.requeue(job):
        return f"Stopped by SLURM, which runs job {job} again: it goes on from what is saved."
    return f"Stopped by SLURM; {kept}"


def status(number: int) -> int:
    """Return the exit status of a command that a signal stopped."""
    return 128 + number


def stop_at_once(number: int, frame: FrameType | None = None) -> None:
    """End this process, with a sentence in the first of several processes; its forks end silently."""
    if _running.process == os.getpid() and is_rank_zero():
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
    _end(number)


def _end(number: int) -> NoReturn:
    """Remove what is unfinished, print the resume hint, and end this process."""
    if _running.process == os.getpid():
        for folder in list(unfinished):
            shutil.rmtree(folder, ignore_errors=True)
        if is_rank_zero():
            write(sentence(number, resume_hint()))
    os._exit(status(number))


@contextmanager
def _second_signal_ends() -> Iterator[None]:
    """Let the C-level handler, which runs at once, write each signal's number to a thread."""
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
    """Keep the signals of a fork, such as a DataLoader's worker, from counting as its parent's."""
    if _running.process:
        signal.set_wakeup_fd(-1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


def write(sentence: str) -> None:
    """Write a line to standard error from a signal's handler, where a nested ``print`` is not allowed."""
    with suppress(OSError):
        os.write(2, (SHOW_CURSOR + b"\n" if os.isatty(2) else b"") + sentence.encode(errors="replace") + b"\n")


def is_rank_zero() -> bool:
    """Whether this process is the first of those that train together."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))


def wait_for_rank_zero(seconds: float) -> None:
    """Wait in all processes but the first, which prints for all and ends them.

    The first process, or the launcher, would take an early end of this one for a crash.
    """
    if _running.process and not is_rank_zero():
        time.sleep(seconds)
