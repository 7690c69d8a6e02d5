"""The work of a training step, and the peak rates of the hardware."""

from collections.abc import Callable
from time import perf_counter
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from kd_lightning.benchmark.watch import wait_for


class Work(NamedTuple):
    """Arithmetic and memory traffic, in all (of a step) or a second (of a machine).

    Attributes:
        flops: Floating-point operations of convolutions and matrix products; a multiplication and an addition are two.
        bytes: What all operations read and write, as if there were no cache.
    """

    flops: float
    bytes: float

    def __sub__(self, other: "Work") -> "Work":
        """Subtract a part of the work."""
        return Work(self.flops - other.flops, self.bytes - other.bytes)

    def most(self, other: "Work") -> "Work":
        """Return the larger number of each."""
        return Work(max(self.flops, other.flops), max(self.bytes, other.bytes))


class _Traffic(TorchDispatchMode):
    """Counts the bytes of what operations read and write."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view:
            self.bytes += sum(part.nbytes for part in tree_leaves((args, kwargs, result)) if isinstance(part, Tensor))
        return result


def work_of(step: Callable[[], object]) -> Work:
    """Count the operations and bytes of a call."""
    with FlopCounterMode(display=False) as flops:
        step()
    with _Traffic() as traffic:
        step()
    return Work(flops.get_total_flops(), traffic.bytes)


def machine(device: torch.device, dtype: torch.dtype) -> Work:
    """Measure a device's work in a second, by a large matrix product and a copy that exceeds the caches."""
    size, count = (8192, 2**28) if device.type == "cuda" else (1024, 2**25)
    matrix = torch.ones(size, size, device=device, dtype=dtype)
    source = torch.ones(count, device=device)
    target = torch.empty_like(source)
    return Work(
        2 * size**3 / _best(lambda: matrix @ matrix, device),
        2 * source.nbytes / _best(lambda: target.copy_(source), device),
    )


def _best(call: Callable[[], object], device: torch.device, times: int = 10) -> float:
    """Return the seconds of the fastest of some calls."""
    seconds = []
    for _ in range(times):
        wait_for(device)
        started = perf_counter()
        call()
        wait_for(device)
        seconds.append(perf_counter() - started)
    return min(seconds)
