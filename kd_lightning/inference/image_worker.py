"""A worker process that decodes images.

``python -m kd_lightning.inference.image_worker IMAGE_SIZE CHANNELS LOCK PIXEL_RANGE`` (the last in JSON) starts it.

It reads one JSON list of file names a line, and answers each with a line of JSON (position and reason of the broken
files) and the pixels of the other files. It imports no torch, so it starts in 0.2 s. It is not forked, so it is safe
beside the threads of torch and CUDA, and does not run the user's script again.
"""

import json
import os
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import partial

import numpy as np

from kd_lightning.inference import images
from kd_lightning.inference.images import BrokenImageError, PixelRange, Pixels, read_image


def decode(
    names: Sequence[str], image_size: int, channels: int, pixel_range: PixelRange | None = None
) -> tuple[Pixels, dict[int, str]]:
    """Return the pixels of the readable files, ``(K, S, S, C)``, and position and reason of the others."""
    pixels = np.empty((len(names), image_size, image_size, channels), np.uint8)
    broken: dict[int, str] = {}
    for position, name in enumerate(names):
        try:
            pixels[position - len(broken)] = read_image(name, image_size, channels, pixel_range)
        except BrokenImageError as error:
            broken[position] = error.reason
    return pixels[: len(names) - len(broken)], broken


def main(image_size: int, channels: int, lock: str, pixel_range: PixelRange | None) -> None:
    """Answer requests until standard input or the parent process ends.

    Args:
        image_size: Height and width in pixels.
        channels: 1 (grey) or 3 (colour).
        lock: A file: of all processes that share it, one decodes a large image at a time.
        pixel_range: As in ``read_image``.
    """
    images.one_at_a_time = partial(_locked, lock)
    for line in sys.stdin.buffer:
        pixels, broken = decode(json.loads(line), image_size, channels, pixel_range)
        try:
            sys.stdout.buffer.write(json.dumps(list(broken.items())).encode() + b"\n" + pixels.tobytes())
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            os._exit(1)  # an ordinary exit would try to flush again


def _locked(path: str) -> AbstractContextManager[object]:
    from filelock import FileLock  # it takes as long to import as all the rest, and few images are large

    return FileLock(path)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], json.loads(sys.argv[4]))
