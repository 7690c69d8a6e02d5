"""Cautions when training starts: where a teacher can hardly help, and what to set."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from kd_lightning.callbacks.measure_baseline import MeasureBaseline
from kd_lightning.callbacks.summary_text import worse_teacher
from kd_lightning.callbacks.trainer_callbacks import callbacks_of
from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.losses import Loss, LossSum, Targets
from kd_lightning.losses.gradients import relative_pull
from kd_lightning.losses.logits import LogitLoss
from kd_lightning.networks.layers import LOGITS

if TYPE_CHECKING:
    from kd_lightning.tasks import Task

HARDLY_BETTER = 0.01
"""Accuracy by which a teacher should be better than the student without it."""

CERTAIN, NEARLY_ALL = 0.999, 0.99
"""Probability from which a teacher is certain of an image, and the share of such images that is too large."""

WEAKEST, STRONGEST = 0.01, 20.0
"""The least and the largest length of a loss's gradient, relative to that of the labels'. A loss on logits may be as
strong as it likes: what it says of an image replaces the label."""


class Cautions(Callback):
    """Print a line at the start of a fit for each sign that its teacher can hardly help.

    The accuracies are those in the files of the teacher and of the baseline; the rest is measured on the first batch,
    from the graph of the first step, so that training is the same to the last bit.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the teacher with the baseline, and let the first step be measured."""
        task = cast("Task", pl_module)
        teacher = getattr(task, "teacher", None)
        if teacher is None or trainer.global_step:
            return
        for callback in callbacks_of(trainer, MeasureBaseline):
            _print(task, of_accuracy(getattr(teacher, "info", None), callback.network.info))
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        scale = 1.0 if scaler is None else scaler.get_scale()  # half precision would lose small gradients
        task.losses.watch_first(_watch(task, scale))


def _watch(task: "Task", scale: float) -> Callable[[Mapping[str, Targets], Mapping[str, Tensor]], None]:
    def watch(targets: Mapping[str, Targets], values: Mapping[str, Tensor]) -> None:
        _print(task, *of_certainty(task.losses.named, targets))
        if not task.compiled:  # a compiled graph allows only one backward pass
            parameters = [part for part in task.network.parameters() if part.requires_grad]
            scaled = {name: value * scale for name, value in values.items()}
            _print(task, *of_pulls(task.losses, scaled, parameters))

    return watch


def _print(task: "Task", *sentences: str) -> None:
    for sentence in filter(None, sentences):
        task.print(f"Caution: {sentence}.")


def of_accuracy(teacher: ModelInfo | None, baseline: ModelInfo | None) -> str:
    """Return a caution where the teacher's file says that it is not better than the student without it; else nothing.

    Args:
        teacher: The information in the teacher's file; ``None`` without one.
        baseline: The same of the student without a teacher.
    """
    if teacher is None or baseline is None or teacher.accuracy is None or baseline.accuracy is None:
        return ""
    if (teacher.data, sorted(teacher.class_names)) != (baseline.data, sorted(baseline.class_names)):
        return ""
    if teacher.accuracy - baseline.accuracy >= HARDLY_BETTER:
        return ""
    return worse_teacher({"test_accuracy": teacher.accuracy}, {"test_accuracy": baseline.accuracy}) or (
        f"the teacher ({100 * teacher.accuracy:.2f} %) is hardly better than the student without it "
        f"({100 * baseline.accuracy:.2f} %); train it longer, or take a larger one"
    )


def of_certainty(losses: Mapping[str, Loss], targets: Mapping[str, Targets]) -> Iterator[str]:
    """Yield a caution for each loss at whose temperature the teacher's targets are labels.

    Args:
        losses: The losses by name.
        targets: What each needs of the teacher, for a batch.
    """
    for name, loss in losses.items():
        logits, temperature = targets.get(name, {}).get(LOGITS), getattr(loss, "temperature", None)
        if not isinstance(loss, LogitLoss) or loss.standardize or logits is None:
            continue
        if not isinstance(temperature, int | float):
            continue
        certain = (logits.float() / temperature).softmax(1).amax(1) > CERTAIN
        if float(share := certain.float().mean()) >= NEARLY_ALL:
            yield (
                f"the teacher is certain of {100 * float(share):.0f} % of the first batch's images at the temperature "
                f"{temperature:g} of the loss '{name}', which so learns little more than labels; set "
                f"--model.losses.{name}.temperature to {max(4, 2 * temperature):g} or so"
            )


def of_pulls(losses: LossSum, values: Mapping[str, Tensor], parameters: list[torch.nn.Parameter]) -> Iterator[str]:
    """Yield a caution for each loss on a teacher whose gradient is far shorter or longer than that of the labels.

    Args:
        losses: The losses.
        values: Their values in a step, without their weights.
        parameters: Those of the network that are trained.
    """
    weighted = {
        name: loss.full_weight * values[name]
        for name, loss in losses.named.items()
        if loss.full_weight and values[name].requires_grad
    }
    taught = [name for name in weighted if losses.named[name].learns_from_teacher]
    labels = [value for name, value in weighted.items() if name not in taught]
    if not labels:
        return
    reference = torch.stack(labels).sum()
    for name in taught:
        pull = float(relative_pull(weighted[name], reference, parameters))
        strongest = torch.inf if isinstance(losses.named[name], LogitLoss) else STRONGEST
        if WEAKEST <= pull <= strongest or not 0 < pull < torch.inf:
            continue
        times, who = (f"{100 * pull:.2g} %", "it") if pull < WEAKEST else (f"{pull:,.0f} times", "the labels")
        weight = losses.named[name].full_weight
        yield (
            f"in the first step the gradient of the loss '{name}' is {times} as long as the labels', so that {who} "
            f"hardly count{'s' * (who == 'it')}; with --model.losses.{name}.weight {weight / pull:.2g} both would be "
            "equally long"
        )
