"""The fast path: as many steps as possible in one call, on a GPU as replays of a CUDA graph."""

from collections.abc import Callable
from itertools import islice

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.optim import Optimizer

from kd_lightning.errors import UserError
from kd_lightning.fast.ahead import Groups
from kd_lightning.fast.graph import Capture, CapturedStep, keep_rates, make_capturable, warm_up_stream
from kd_lightning.fast.step import OptimizerStep

WARM_UP = 3
"""Steps before a capture: they fill the optimizer's state, caches and tables."""


class FastPath:
    """Train on groups of batches, each for one optimizer step.

    Args:
        step: The optimizer step.
        capture: Captures the step; ``None`` runs it from Python every time.
    """

    def __init__(self, step: OptimizerStep, capture: Capture | None) -> None:
        self.step = step
        self.capture = capture
        self._warm = 0
        self._captured: CapturedStep | None = None
        self._signature: object = None
        self._rates: list[Tensor] = []

    def train(self, groups: Groups, count: Callable[[], None]) -> None:
        """Train on groups of full batches, and call ``count`` behind each."""
        if self.capture is None:
            self._step_by_step(groups, count)
            return
        self._renew()
        if self._captured is None:
            with warm_up_stream(self.step.task.device):
                self._step_by_step(islice(groups, WARM_UP - self._warm), count)
            if self._warm < WARM_UP:
                return
            self._try_capture()
        if self._captured is None:
            self._step_by_step(groups, count)
        else:
            self._captured.train(groups, lambda: self._count(count))

    def _renew(self) -> None:
        """Forget a graph where something has changed that it keeps as it was."""
        keep_rates(self.step.optimizer, self._rates)
        signature = _signature(self.step.optimizer, self.step.trainer)
        if signature != self._signature:
            self._rates = make_capturable(self.step.optimizer, self.step.task.device)
            self._signature = _signature(self.step.optimizer, self.step.trainer)
            self._captured, self._warm = None, 0

    def _count(self, count: Callable[[], None]) -> None:
        count()
        keep_rates(self.step.optimizer, self._rates)

    def _step_by_step(self, groups: Groups, count: Callable[[], None]) -> None:
        for group in groups:
            for result in self.step(group):
                self.step.task.record(result, "train")
            count()
            self._warm += 1

    def _try_capture(self) -> None:
        assert self.capture is not None
        self.step.optimizer.zero_grad()  # a graph has gradients of its own
        try:
            self._captured = CapturedStep(self.step, self.capture)
        except RuntimeError as error:  # what CUDA and torch raise where something waits for the device
            self.capture = None
            _restore_generator(self.step.task.device)
            reason = f"the step cannot be captured: {str(error).strip().partition(chr(10))[0]}"
            if self.step.task.fast is True:
                raise UserError(f"--model.fast is true, but {reason}; set it to auto or change that.") from error
            self.step.task.print(f"Steps: many in one call, but not as a CUDA graph; {reason}.")


def _signature(optimizer: Optimizer, trainer: Trainer) -> object:
    """Return all that a captured step keeps as it was, however its owners change it later."""
    module = trainer.lightning_module
    settings = [
        (name, value)
        for group in optimizer.param_groups
        for name, value in group.items()
        if name != "params" and not isinstance(value, Tensor)
    ]
    parameters = [
        (values.data_ptr(), values.requires_grad) for group in optimizer.param_groups for values in group["params"]
    ]
    modes = [part.training for part in module.modules()]
    return settings, parameters, modes, trainer.gradient_clip_val, trainer.gradient_clip_algorithm


def _restore_generator(device: torch.device) -> None:
    """Free the GPU's random numbers of a capture that was broken off."""
    if device.type == "cuda":
        generator = torch.cuda.default_generators[device.index or 0]
        generator.graphsafe_set_state(generator.clone_state())
