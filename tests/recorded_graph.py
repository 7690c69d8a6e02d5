"""A CUDA graph's stand-in for CPUs: records the operations of a step and repeats them on the same memory.

As with a graph, what Python knew at the capture stays as it was (numbers, which branch was taken), only what lies in
tensors is read anew, and the capture itself changes nothing.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kd_lightning.fast.graph import CapturedStep


class Recorded(TorchDispatchMode):
    """Records operations; ``replay`` has them done again, and their results put where they were.

    Attributes:
        replays: How often.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.replays = 0
        self._calls: list[tuple[Any, Any, Any, list[Tensor]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing: a value is asked for")
        result = func(*args, **(kwargs or {}))
        self._calls.append((func, args, kwargs or {}, tensors(result)))
        return result

    @torch.no_grad()
    def replay(self) -> None:
        self.replays += 1
        for func, args, kwargs, places in self._calls:
            for place, values in zip(places, tensors(func(*args, **kwargs)), strict=True):
                if place.data_ptr() != values.data_ptr():  # neither a view nor in place
                    place.copy_(values)


def record(step: CapturedStep) -> Recorded:
    """Capture a step's ``once``."""
    recorded = Recorded()
    with unchanged(step), recorded:
        step.once()
    return recorded


@contextmanager
def unchanged(step: CapturedStep) -> Iterator[None]:
    """Put back, behind the block, all that a step changes."""
    task, optimizer = step.step.task, step.step.optimizer
    state = [*task.parameters(), *task.buffers(), *tensors(list(optimizer.state.values())), step.slot]
    before, random = [values.detach().clone() for values in state], torch.get_rng_state()
    yield
    with torch.no_grad():
        for values, old in zip(state, before, strict=True):
            values.copy_(old)
    torch.set_rng_state(random)


def tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


class Captures:
    """Captures steps by recording them.

    Attributes:
        recorded: What was captured.
    """

    def __init__(self) -> None:
        self.recorded: list[Recorded] = []

    def __call__(self, function: Any) -> Callable[[], None]:
        self.recorded.append(record(function.__self__))
        return self.recorded[-1].replay

    @property
    def replays(self) -> int:
        """How often something that was captured was replayed."""
        return sum(recorded.replays for recorded in self.recorded)
