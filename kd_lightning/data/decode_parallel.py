"""Decode image files on all cores, in their order, with few of them in memory at a time."""

import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import Self

import numpy as np

from kd_lightning.errors import UserError
from kd_lightning.inference.image_worker import decode
from kd_lightning.inference.images import PixelRange, Pixels
from kd_lightning.machine.cpu import cores
from kd_lightning.machine.progress import with_progress

Part = tuple[Pixels, dict[int, str]]
"""Pixels of readable files, (K, S, S, C), and position and reason of the broken ones."""

PART_FILES, PART_BYTES = 64, 2**21
FILES_A_WORKER, BYTES_A_WORKER = 1000, 10 * 2**20  # about 0.2 s of decoding, a process's start


def worker_count(files: int, size: int) -> int:
    """Return how many processes decode this many files of this total size in bytes; 1 means this one."""
    return max(1, min(cores(), max(files // FILES_A_WORKER, size // BYTES_A_WORKER)))


def decode_in_order(
    names: Sequence[str], image_size: int, channels: int, workers: int, pixel_range: PixelRange | None = None
) -> Iterator[Part]:
    """Yield the decoded files part by part, with a progress bar where it takes more than a second.

    Positions of broken files count from the first of all names.

    Args:
        names: The files.
        image_size: Height and width in pixels.
        channels: 1 (grey) or 3 (colour).
        workers: Processes to decode with; 1 decodes in this one.
        pixel_range: Values of black and white in files of more than 8 bits; ``None`` reports these as broken.
    """
    length = max(1, min(PART_FILES, PART_BYTES // (image_size * image_size * channels)))
    requests = [names[start : start + length] for start in range(0, len(names), length)]
    with ExitStack() as stack:
        if workers > 1:
            parts = stack.enter_context(_Team(workers, image_size, channels, pixel_range)).decode_all(requests)
        else:
            parts = (decode(request, image_size, channels, pixel_range) for request in requests)
        start = 0
        for pixels, broken in with_progress(parts, "Decoding images", len(names), _files_in):
            yield pixels, {start + position: reason for position, reason in broken.items()}
            start += len(pixels) + len(broken)


def _files_in(part: Part) -> int:
    return len(part[0]) + len(part[1])


class _Team:
    """A pool of worker processes, each fed by a thread of this process."""

    def __init__(self, workers: int, image_size: int, channels: int, pixel_range: PixelRange | None) -> None:
        self._folder = TemporaryDirectory()
        lock = os.path.join(self._folder.name, "large")  # noqa: PTH118 - plain text for a command
        self._workers = [_Worker(image_size, channels, lock, pixel_range) for _ in range(workers)]
        self._idle: SimpleQueue[_Worker] = SimpleQueue()
        for worker in self._workers:
            self._idle.put(worker)
        self._threads = ThreadPoolExecutor(workers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)
        for worker in self._workers:
            worker.close()
        self._folder.cleanup()

    def decode_all(self, requests: Sequence[Sequence[str]]) -> Iterator[Part]:
        """Yield the decoded parts in the order of the requests; at most four a process are pending."""
        waiting: deque[Future[Part]] = deque()
        for request in requests:
            waiting.append(self._threads.submit(self._decode, request))
            if len(waiting) == 4 * len(self._workers):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _decode(self, names: Sequence[str]) -> Part:
        worker = self._idle.get()
        try:
            return worker.decode(names)
        finally:
            self._idle.put(worker)


class _Worker:
    """One ``image_worker`` process, as its parent sees it."""

    def __init__(self, image_size: int, channels: int, lock: str, pixel_range: PixelRange | None = None) -> None:
        self._shape = (image_size, image_size, channels)
        options = ["-P", "-W", "ignore", "-m", "kd_lightning.inference.image_worker"]
        command = [sys.executable, *options, str(image_size), str(channels), lock, json.dumps(pixel_range)]
        paths = os.pathsep.join(map(os.path.abspath, sys.path))
        environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                start_new_session=True,  # Ctrl-C is for the parent process
            )
        except OSError as error:
            raise UserError(f"cannot start {command[0]} to decode images: {error.strerror}; free memory.") from None

    def decode(self, names: Sequence[str]) -> Part:
        """Send the file names to the process and return what it decodes.

        Raises:
            UserError: The process ended before it had decoded them.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(names).encode() + b"\n")
            self._process.stdin.flush()
            broken = dict(json.loads(self._process.stdout.readline()))
            shape = (len(names) - len(broken), *self._shape)
            data = self._process.stdout.read(int(np.prod(shape)))
            return np.frombuffer(data, np.uint8).reshape(shape), broken
        except (OSError, ValueError):
            status = self._process.wait()
            raise UserError(
                f"the process that decoded {names[0]} to {names[-1]} ended with status {status}: "
                "see its output above, and check that the memory suffices."
            ) from None

    def close(self) -> None:
        """Close the process's input, which ends it, and wait."""
        with suppress(OSError), self._process:  # OSError: it ended early
            pass
