"""Weights by which losses pull as hard as the labels, measured before the first step."""

from collections.abc import Iterable, Mapping
from itertools import islice
from math import exp, inf
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kd_lightning.data.loader import Batch
from kd_lightning.errors import UserError
from kd_lightning.losses import Loss
from kd_lightning.losses.gradients import relative_pull
from kd_lightning.networks.trial import in_mode
from kd_lightning.wording import as_hard

if TYPE_CHECKING:
    from kd_lightning.tasks.task import Task

BATCHES = 8
"""Batches whose pulls are averaged: the first ones of the first epoch."""

BALANCE_KEY = "balance"
"""Key under which checkpoints keep the ratio and the weights."""


class Balance:
    """Sets the weights of the losses on a teacher by how hard they pull at the student in comparison with the labels.

    Each loss's gradient is made ``ratio`` times as long as that of the labels' losses together, with respect to the
    student's parameters that both reach. That is measured once, on the student before its first step, so that the
    objective stays the same and a config can hold its weights. A loss of weight 0, which is only logged, keeps it.

    Args:
        ratio: Above 0.
        losses: The task's losses by name; those that learn from no teacher are the labels'.

    Attributes:
        weights: The weights found, by the loss's name; empty before the first fit.

    Raises:
        UserError: The ratio is not valid, or no loss on labels or on a teacher has a weight.
    """

    def __init__(self, ratio: float, losses: Mapping[str, Loss]) -> None:
        if not 0 < ratio < inf:
            raise UserError(
                f"--model.balance is {ratio:g}, but it must be above 0; without it the config's weights count."
            )
        counted = {name: loss.learns_from_teacher for name, loss in losses.items() if loss.full_weight}
        self.ratio = ratio
        self.balanced = [name for name, on_teacher in counted.items() if on_teacher]
        self.labels = [name for name, on_teacher in counted.items() if not on_teacher]
        self.weights: dict[str, float] = {}
        for names, missing, example in (
            (self.labels, "on labels", "labels: CrossEntropy"),
            (self.balanced, "on a teacher", "kd: SoftTargets"),
        ):
            if not names:
                raise UserError(
                    f"--model.balance compares gradients, but there is no loss {missing} with a weight; add one to "
                    f"model.losses, such as `{example}`, or leave the option out."
                )

    def run(self, task: "Task") -> list[str]:
        """Set the weights: a checkpoint's, or those that are measured now; return lines with them, as options.

        Neither the network nor any random state changes.

        Raises:
            UserError: A loss has no gradient, or none that is finite.
        """
        if not self.weights:
            pulls = self._mean_pulls(task)
            self.weights = {name: self._weight(name, pull) for name, pull in pulls.items()}
        set_weights(task, self.weights)
        task.losses.set_epoch(task.trainer.current_epoch)
        title = f"Balance: each loss on the teacher pulls {as_hard(self.ratio)} as the labels, by"
        return [title, *(f"  --model.losses.{name}.weight {weight:g}" for name, weight in self.weights.items())]

    def _weight(self, name: str, pull: float) -> float:
        if not 0 < pull < inf:
            raise UserError(
                f"--model.balance finds no weight for the loss '{name}', whose gradient is {pull:g} times as long as "
                "the labels'; name other layers, or leave the option out."
            )
        return float(f"{self.ratio / pull:.4g}")  # as it is printed: a config with it gives the same run

    def _mean_pulls(self, task: "Task") -> dict[str, float]:
        """Return how hard the losses without their weights pull, the geometric mean over batches and processes."""
        trainer, compiled = task.trainer, task.compiled
        loader: Iterable[Any] = trainer.train_dataloader  # type: ignore[assignment]
        task.compiled = False  # a compiled graph allows only one backward pass
        try:
            with in_mode(task, training=True):
                batches = map(trainer.strategy.batch_to_device, islice(loader, BATCHES))
                found = [self._pulls(task, batch) for batch in batches]
        finally:
            task.compiled = compiled
        mean = trainer.strategy.reduce(torch.stack(found).log().mean(0), reduce_op="mean")
        return dict(zip(self.balanced, map(exp, mean.tolist()), strict=True))

    def _pulls(self, task: "Task", batch: Batch) -> Tensor:
        """Return how hard each loss pulls in a batch, (losses,)."""
        precision = task.trainer.precision_plugin
        with precision.train_step_context():
            values = task.step(batch).losses
        scaler = getattr(precision, "scaler", None)
        scale = 1.0 if scaler is None else scaler.get_scale()  # half precision would lose small gradients
        labels = torch.stack([task.losses.named[name].full_weight * values[name] for name in self.labels]).sum()
        parameters = [part for part in task.network.parameters() if part.requires_grad]
        return torch.stack([relative_pull(values[name] * scale, labels * scale, parameters) for name in self.balanced])


def load_balance(task: "Task", balance: Balance | None, saved: Mapping[str, Any] | None) -> None:
    """Take the weights that a checkpoint keeps: to resume with them, or to measure the losses as they were trained.

    Raises:
        UserError: A run with another ratio is to be resumed.
    """
    ratio, own = (None if saved is None else saved["ratio"]), (None if balance is None else balance.ratio)
    if ratio != own and task._trainer is not None and task.trainer.state.fn == "fit":
        raise UserError(
            f"{task.trainer.ckpt_path} was trained with --model.balance {_shown(ratio)}, but this config says "
            f"{_shown(own)}; leave it as it was, or start a new run without --ckpt_path."
        )
    weights = {} if saved is None else dict(saved["weights"])
    set_weights(task, weights)
    if balance is not None:
        balance.weights = weights


def set_weights(task: "Task", weights: Mapping[str, float]) -> None:
    """Set the weights, after their warm-ups, of the losses that a task has."""
    for name, loss in task.losses.named.items():
        if name in weights:
            loss.set_weight(weights[name])


def _shown(ratio: float | None) -> str:
    return "null" if ratio is None else f"{ratio:g}"
