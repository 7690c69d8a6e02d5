"""Processes that train together: how many there are, and what all of them have."""

import torch
from torch import Tensor, distributed


def process_count() -> int:
    """Return how many processes train together."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def process_rank() -> int:
    """Return the number of this process among those that train together, from 0."""
    return distributed.get_rank() if process_count() > 1 else 0


def gathered(values: Tensor) -> Tensor:
    """Return the values (B, ...) of all processes, (processes * B, ...), the same in each; without a gradient."""
    if process_count() == 1:
        return values
    parts = [torch.empty_like(values, memory_format=torch.contiguous_format) for _ in range(process_count())]
    distributed.all_gather(parts, values.contiguous())
    return torch.cat(parts)


def largest(number: int | bool, device: torch.device) -> int:
    """Return the largest of the processes' numbers; all have to call it, with their device."""
    return int(number) if process_count() == 1 else int(gathered(torch.tensor([int(number)], device=device)).max())
