"""Random numbers that do not affect the run's own."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def fresh_random_state() -> Iterator[None]:
    """Seed a block with fresh entropy, and restore the random state after it."""
    kept = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=devices):
        torch.seed()
        random.seed()
        np.random.seed()
        try:
            yield
        finally:
            random.setstate(kept[0])
            np.random.set_state(kept[1])
