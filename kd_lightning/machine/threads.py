"""The number of torch's threads."""

import os

import torch

from kd_lightning.machine.cpu import cores


def use_own_cores() -> None:
    """Let torch use the cores that this process has, where it counted more; ``OMP_NUM_THREADS`` takes precedence."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(min(torch.get_num_threads(), cores()))
