"""Processes that train several runs at once; when one dies, only its own run fails."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from types import ModuleType

from kd_lightning.compare.worker import Job, worker_loop


@dataclass
class _Worker:
    process: SpawnProcess
    connection: Connection
    job: Job | None = None


class Pool:
    """Runs jobs in worker processes, which start when they are needed and run one job after another.

    Args:
        jobs: Largest number of processes.
        threads: CPU threads of each.
    """

    def __init__(self, jobs: int, threads: int) -> None:
        self.jobs = jobs
        self.threads = threads
        self._workers: list[_Worker] = []

    def close(self) -> None:
        """Kill all processes; no file is left half written, because files are written atomically."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
        self._workers.clear()

    @property
    def running(self) -> list[Job]:
        """The jobs that run."""
        return [worker.job for worker in self._workers if worker.job is not None]

    @property
    def has_room(self) -> bool:
        """Whether another job can be started."""
        return len(self.running) < self.jobs

    def start(self, job: Job) -> None:
        """Run a job in an idle process, or in a new one."""
        worker = next((worker for worker in self._workers if worker.job is None), None) or self._start_worker()
        worker.job = job
        worker.connection.send(job)

    def wait(self, seconds: float) -> list[tuple[Job, str | None]]:
        """Return the jobs that end within a time, each with its failure, or ``None``."""
        busy = {worker.connection: worker for worker in self._workers if worker.job is not None}
        return [self._collect(busy[ready]) for ready in wait(list(busy), seconds) if isinstance(ready, Connection)]

    def _start_worker(self) -> _Worker:
        context = get_context("spawn")  # a fork would inherit the threads of torch
        ours, theirs = context.Pipe()
        process = context.Process(target=worker_loop, args=(theirs, self.threads))
        with _held_back(signal.SIGINT), _without_main():  # Ctrl-C can arrive before the new process ignores it
            process.start()
        theirs.close()
        self._workers.append(_Worker(process, ours))
        return self._workers[-1]

    def _collect(self, worker: _Worker) -> tuple[Job, str | None]:
        job, worker.job = worker.job, None
        assert job is not None
        try:
            return job, worker.connection.recv()
        except (EOFError, ConnectionError):
            worker.process.join()
            self._workers.remove(worker)
            return job, _how_it_died(worker.process.exitcode or 0)


@contextmanager
def _held_back(number: signal.Signals) -> Iterator[None]:
    """Block a signal until the end of the block; processes that start inside never receive it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _without_main() -> Iterator[None]:
    """Hide the program that runs: new processes would run a script again that has no ``__main__`` guard."""
    before = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = before


def _how_it_died(code: int) -> str:
    if code == -signal.SIGKILL:
        return "its process was killed, perhaps because memory ran out; try a smaller --jobs"
    return f"its process ended with {signal.Signals(-code).name if code < 0 else f'status {code}'}"
