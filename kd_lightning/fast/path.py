"""The fast path: as many steps as possible in one call, on a GPU as replays of a CUDA graph."""

from collections.abc import Callable
from itertools import chain

import torch
from torch import Tensor

from kd_lightning.errors import UserError
from kd_lightning.fast.ahead import AccumulationGroups
from kd_lightning.fast.graph import Capture, CapturedStep, keep_rates, make_capturable
from kd_lightning.fast.step import OptimizerStep

PLAIN = (bool, int, float, str, tuple, type(None))
"""Types of modules' settings: probabilities, momenta, modes."""


class FastPath:
    """Train on accumulation groups, each for one optimizer step.

    Args:
        step: The optimizer step.
        capture: Captures the step; ``None`` runs it from Python every time.
    """

    def __init__(self, step: OptimizerStep, capture: Capture | None) -> None:
        self.step = step
        self.capture = capture
        self._captured: CapturedStep | None = None
        self._signature: object = None
        self._rates: list[Tensor] = []

    def train(self, groups: AccumulationGroups, step_done: Callable[[], None]) -> None:
        """Train on accumulation groups of full batches, and call ``step_done`` after each."""
        if self.capture is None:
            self._step_by_step(groups, step_done)
        else:
            self._captured_step().train(groups, lambda: self._keep_rates_after(step_done))

    def _step_by_step(self, groups: AccumulationGroups, step_done: Callable[[], None]) -> None:
        for group in groups:
            for step in self.step(group):
                self.step.task.metrics.add("train", step)
            step_done()

    def _captured_step(self) -> CapturedStep:
        """Return the captured step; capture again where something has changed that the old one has recorded."""
        keep_rates(self.step.optimizer, self._rates)
        signature = _signature(self.step)
        if self._captured is None or signature != self._signature:
            self._rates = make_capturable(self.step.optimizer, self.step.task.device)
            self._signature = _signature(self.step)
            self._captured = CapturedStep(self.step, self._try_capture)
        return self._captured

    def _keep_rates_after(self, step_done: Callable[[], None]) -> None:
        step_done()
        keep_rates(self.step.optimizer, self._rates)

    def _try_capture(self, function: Callable[[], None]) -> Callable[[], None]:
        """Capture a function; where something in it waits for the device, print that and return it as it is."""
        assert self.capture is not None
        self.step.optimizer.zero_grad()  # a graph has gradients of its own
        try:
            return self.capture(function)
        except RuntimeError as error:
            self.capture = None
            _restore_generator(self.step.task.device)
            reason = f"the step cannot be captured: {_first_line(error)}"
            if self.step.task.fast is True:
                raise UserError(f"--model.fast is true, but {reason}; set it to auto or change that.") from error
            self.step.task.print(f"Steps: many in one call, but not as a CUDA graph; {reason}.")
            return function


def _first_line(error: RuntimeError) -> str:
    """Return the cause; the error that ends a failed capture reports only that something failed before."""
    cause = error.__context__ if isinstance(error.__context__, RuntimeError) else error
    return str(cause).strip().partition("\n")[0]


def _signature(step: OptimizerStep) -> object:
    """Return all settings that a captured step has recorded, to notice a later change."""
    task, groups = step.task, step.optimizer.param_groups
    settings = [
        (name, value)
        for group in groups
        for name, value in group.items()
        if name != "params" and not isinstance(value, Tensor)
    ]
    parameters = [(values.data_ptr(), values.requires_grad) for group in groups for values in group["params"]]
    modules = chain([task], *(module.modules() for module in task.step_modules()))
    numbers = [
        (name, value)
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, PLAIN) and not name.startswith("_")
    ]
    clipping = step.trainer.gradient_clip_val, step.trainer.gradient_clip_algorithm
    return settings, parameters, numbers, clipping, step.group_size


def _restore_generator(device: torch.device) -> None:
    """Detach the GPU's random number generator from an aborted capture."""
    if device.type == "cuda":
        generator = torch.cuda.default_generators[device.index or 0]
        generator.graphsafe_set_state(generator.clone_state())
