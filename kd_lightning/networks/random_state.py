"""Random numbers that do not affect the run's own."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Restore the random states of Python, NumPy and torch after a block."""
    python, numpy = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextmanager
def fresh_random_state() -> Iterator[None]:
    """Seed a block with fresh entropy, and restore the random states after it."""
    with kept_random_state():
        _seed(torch.Generator().seed())
        random.seed()
        np.random.seed()
        yield


@contextmanager
def seeded_random_state(seed: int) -> Iterator[None]:
    """Seed torch for a block, and restore the random states after it."""
    with kept_random_state():
        _seed(seed)
        yield


def _seed(seed: int) -> None:
    """Seed torch; CUDA only where it is in use, for else it would begin with the seed after the block."""
    (torch.manual_seed if torch.cuda.is_initialized() else torch.default_generator.manual_seed)(seed)
