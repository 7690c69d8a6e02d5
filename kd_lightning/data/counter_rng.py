"""Random numbers of an image: a function of seed, epoch and row, the same in any batch and on any device.

They come from a counter-based generator, the finalizer of SplitMix64 (Steele, Lea and Flood, 2014,
https://doi.org/10.1145/2660193.2660195), in 64-bit integer arithmetic with wrap-around. So there is no state to save,
CPU and GPU agree in every bit, no call synchronizes with the device, and a CUDA graph can capture it.
"""

from functools import cache
from hashlib import blake2b

import torch
from torch import Tensor

# Odd 64-bit constants as signed numbers: the steps of the counter, and the multipliers of the finalizer.
EPOCH, ROW, COLUMN = -0x61C8864680B583EB, 0x2545F4914F6CDD1D, -0x2ECBDABC217D106B
FIRST, SECOND = -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15

EPOCHS = 2**32
"""Factor of the run's seed, to which the epoch is added."""


def bits(rows: Tensor, epoch: int | Tensor, seed: int, count: int, stream: str = "") -> Tensor:
    """Return ``(B, count)`` int64 with 64 random bits each.

    Args:
        rows: ``(B,)`` int64: the images' row numbers in the data set.
        epoch: The epoch, 0 or more, or a 0-d int64 tensor of it on the rows' device, read at each graph replay.
        seed: Any integer.
        count: Numbers for each image.
        stream: Name of the consumer; two names draw independently for the same seed.
    """
    epoch = epoch if isinstance(epoch, Tensor) else torch.full((), epoch, dtype=torch.int64, device=rows.device)
    counters = rows * ROW + (epoch * EPOCH + _key(seed, stream))
    return _finalize(counters.unsqueeze(1) + torch.arange(count, device=rows.device) * COLUMN)


def uniform(rows: Tensor, epoch: int | Tensor, seed: int, count: int, stream: str = "") -> Tensor:
    """Return ``(B, count)`` float32, uniform in [0, 1) in steps of 2**-24; the arguments are those of ``bits``."""
    return _shift_right(bits(rows, epoch, seed, count, stream), 40).to(torch.float32) * 2.0**-24


def integers(draws: Tensor, count: int) -> Tensor:
    """Turn uniform draws into int64 in 0 .. ``count - 1``; float32 keeps them below ``count``, 2**24 at most."""
    return (draws * count).to(torch.int64)


@cache
def _key(seed: int, stream: str) -> int:
    digest = blake2b(f"{stream}:{seed}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def _shift_right(numbers: Tensor, places: int) -> Tensor:
    """Shift right and fill with zeros; torch's own shift of int64 repeats the sign."""
    return (numbers >> places) & ((1 << (64 - places)) - 1)


def _finalize(numbers: Tensor) -> Tensor:
    numbers = (numbers ^ _shift_right(numbers, 30)) * FIRST
    numbers = (numbers ^ _shift_right(numbers, 27)) * SECOND
    return numbers ^ _shift_right(numbers, 31)
