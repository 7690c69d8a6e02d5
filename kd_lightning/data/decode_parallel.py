"""Decode image files on all cores, in their order, with few of them in memory at a time."""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from kd_lightning.errors import UserError
from kd_lightning.inference.images import BrokenImageError, ImageFile, PixelRange, Pixels, read_image
from kd_lightning.machine import stopping
from kd_lightning.machine.cpu import cores
from kd_lightning.machine.progress import with_progress

Part = tuple[Pixels, dict[int, str]]
"""Pixels of readable files, (K, S, S, C), and position and reason of the broken ones."""

PART_FILES, PART_BYTES = 64, 2**21
FILES_A_WORKER, BYTES_A_WORKER = 1000, 10 * 2**20  # about 0.2 s of decoding


def worker_count(files: int, size: int) -> int:
    """Return how many processes decode this many files of this total size in bytes; 1 means this one."""
    return max(1, min(cores(), max(files // FILES_A_WORKER, size // BYTES_A_WORKER)))


def decode(names: Sequence[ImageFile], image_size: int, channels: int, pixel_range: PixelRange | None = None) -> Part:
    """Return the pixels of the readable files, and position and reason of the others."""
    pixels = np.empty((len(names), image_size, image_size, channels), np.uint8)
    broken: dict[int, str] = {}
    for position, name in enumerate(names):
        try:
            pixels[position - len(broken)] = read_image(name, image_size, channels, pixel_range)
        except BrokenImageError as error:
            broken[position] = error.reason
    return pixels[: len(names) - len(broken)], broken


class _Parts(Dataset[Part]):
    """The decoded files, some at a time."""

    def __init__(self, requests: Sequence[Sequence[ImageFile]], decode: Callable[[Sequence[ImageFile]], Part]) -> None:
        self.requests, self.decode = requests, decode

    def __len__(self) -> int:
        return len(self.requests)

    def __getitem__(self, number: int) -> Part:
        return self.decode(self.requests[number])


def decode_in_order(
    names: Sequence[ImageFile], image_size: int, channels: int, workers: int, pixel_range: PixelRange | None = None
) -> Iterator[Part]:
    """Yield the decoded files part by part, with a progress bar where it takes more than a second.

    Positions of broken files count from the first of all names.

    Args:
        names: The files.
        image_size: Height and width in pixels.
        channels: 1 (grey) or 3 (colour).
        workers: Processes to decode with; 1 decodes in this one.
        pixel_range: Values of black and white in files of more than 8 bits; ``None`` reports these as broken.

    Raises:
        UserError: A process ended before it had decoded its files.
    """
    length = max(1, min(PART_FILES, PART_BYTES // (image_size * image_size * channels)))
    requests = [names[start : start + length] for start in range(0, len(names), length)]
    parts = DataLoader(
        _Parts(requests, partial(decode, image_size=image_size, channels=channels, pixel_range=pixel_range)),
        batch_size=None,
        collate_fn=_unchanged,
        num_workers=workers if workers > 1 else 0,
        prefetch_factor=4 if workers > 1 else None,
        worker_init_fn=_end_with_parent,
        generator=torch.Generator(),  # the run's own random numbers stay as they are
    )
    start = 0
    try:
        for pixels, broken in with_progress(parts, "Decoding images", len(names), _files_in):
            yield pixels, {start + position: reason for position, reason in broken.items()}
            start += len(pixels) + len(broken)
    except (RuntimeError, OSError) as error:  # a process ended early, or none can be started
        raise UserError(f"decoding images failed after {names[start]}: {error}; check that memory suffices.") from None


def _end_with_parent(worker: int) -> None:
    stopping.end_with(os.getppid())


def _unchanged(part: Any) -> Any:
    return part


def _files_in(part: Part) -> int:
    return len(part[0]) + len(part[1])
