"""Hints at what could make training faster."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kd_lightning.machine.cpu import has_bf16

if TYPE_CHECKING:
    from kd_lightning.tasks.base import Task


def speed_hints(task: "Task") -> Iterator[str]:
    """Yield a line for each cause that makes training slower than it could be."""
    if task.device.type == "cpu" and "bf16" in str(task.trainer.precision) and not has_bf16():
        yield "Precision: this CPU has no bfloat16 arithmetic; --trainer.precision 32-true is faster."
    for network in task.networks():
        if network.needs_contiguous:
            yield f"Memory: {type(network).__name__} calls view; with flatten it could use the faster order."
