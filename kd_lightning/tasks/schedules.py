"""Learning rate schedules that fit the length of the run."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from kd_lightning.errors import UserError


class OneCycle(LambdaLR):
    """Raise the learning rate to the optimizer's, then lower it to nearly zero by the end of the run, along cosines.

    Smith and Topin, "Super-Convergence" (2018, https://arxiv.org/abs/1708.07120). The task sets the length of the
    run.

    Args:
        optimizer: Its learning rate is the highest one.
        total_steps: Optimizer steps of the whole run; a fit sets them where they are not given.
        warm_up: Share of the steps in which the rate rises, in (0, 1).
        start: Learning rate of the first step, as a share of the highest.
    """

    def __init__(
        self, optimizer: Optimizer, total_steps: int | None = None, warm_up: float = 0.3, start: float = 0.04
    ) -> None:
        self.total_steps = total_steps
        self.is_given = total_steps is not None
        self.warm_up = warm_up
        self.start = start
        super().__init__(optimizer, self.share)

    def set_length(self, total_steps: float) -> None:
        """Set the number of optimizer steps of the run, where it was not given.

        Raises:
            UserError: The run has no end, or another length than the one that it resumes.
        """
        if self.is_given:
            return
        if math.isinf(total_steps):
            raise UserError(
                "OneCycle needs the length of the run, but --trainer.max_epochs and --trainer.max_steps are both "
                "unset; set one, or use another schedule."
            )
        if self.total_steps not in (None, total_steps):
            raise UserError(
                f"the OneCycle of the checkpoint has {self.total_steps} steps, but this run has "
                f"{total_steps:.0f}; leave --trainer.max_epochs and the size of the batches as they were, or start a "
                "new run."
            )
        self.total_steps = int(total_steps)

    def share(self, step: int) -> float:
        """Return the learning rate of a step as a share of the highest."""
        if step == 0 or self.total_steps is None:
            return self.start
        peak = max(1, round(self.warm_up * self.total_steps))
        if step <= peak:
            return self.start + (1 - self.start) * (1 - math.cos(math.pi * step / peak)) / 2
        progress = min(1, (step - peak) / max(1, self.total_steps - peak))
        return max(1e-4, (1 + math.cos(math.pi * progress)) / 2)
