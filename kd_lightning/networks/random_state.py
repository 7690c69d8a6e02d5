"""Random numbers that leave the run's own untouched."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def other_draws() -> Iterator[None]:
    """Let what is drawn in a block differ from everything before it, and put the random state back behind it."""
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
