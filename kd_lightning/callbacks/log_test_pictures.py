"""Where the tested network is wrong, in TensorBoard."""

from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

if TYPE_CHECKING:
    from kd_lightning.callbacks.pictures import Mistake
    from kd_lightning.tasks import Task

MAX_CLASSES = 100
"""The most classes whose confusion matrix can be read."""

MISTAKES = 24
"""Mistakes that are drawn."""


class Guesses(NamedTuple):
    """What was predicted for B test images: their rows, labels and predicted classes with their probabilities.

    The teacher's classes and probabilities are the student's where there is no teacher.
    """

    rows: Tensor
    labels: Tensor
    classes: Tensor
    shares: Tensor
    teacher_classes: Tensor
    teacher_shares: Tensor


class LogTestPictures(Callback):
    """Log the confusion matrix and the most confident mistakes on the test images, with the teacher's predictions.

    They are taken from the test itself and drawn when it is done. Of several processes, the first draws the mistakes
    among its own images.
    """

    def __init__(self) -> None:
        self._guesses: list[Guesses] = []
        self._has_teacher = False

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the predictions of a batch."""
        if not _loggers(trainer) or not hasattr(outputs, "teacher_logits"):
            return
        own = outputs.logits.float().softmax(1).max(1)
        self._has_teacher = outputs.teacher_logits is not None
        other = outputs.teacher_logits.float().softmax(1).max(1) if self._has_teacher else own
        kept = (batch.rows, batch.labels, own.indices, own.values, other.indices, other.values)
        self._guesses.append(Guesses(*(values.cpu() for values in kept)))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw and log the pictures in the first process."""
        if not self._guesses:
            return
        guesses = Guesses(*map(torch.cat, zip(*self._guesses, strict=True)))
        self._guesses = []
        task = cast("Task", pl_module)
        counts = _confusion(guesses, task.network.num_classes)
        if trainer.world_size > 1:
            counts = trainer.strategy.reduce(counts.to(task.device), reduce_op="sum").cpu()
        if trainer.is_global_zero:
            self._draw(task, guesses, counts)

    def _draw(self, task: "Task", guesses: Guesses, counts: Tensor) -> None:
        from kd_lightning.callbacks.pictures import confusion_picture, mistakes_picture  # matplotlib takes a second

        pictures = {}
        if len(counts) <= MAX_CLASSES:
            pictures["test/confusion matrix"] = confusion_picture(counts, task.data.class_names)
        else:
            task.print(f"TensorBoard has no confusion matrix: it cannot be read for {len(counts)} classes.")
        wrong = (guesses.classes != guesses.labels).nonzero().flatten()
        if len(wrong):
            chosen = wrong[guesses.shares[wrong].argsort(descending=True, stable=True)][:MISTAKES]
            title = f"the {len(chosen)} most confident of {len(wrong):,} mistakes on {len(guesses.rows):,} test images"
            pictures["test/mistakes"] = mistakes_picture(self._mistakes(task, guesses, chosen), title)
        for logger in _loggers(task.trainer):
            for name, picture in pictures.items():
                logger.experiment.add_image(name, picture, dataformats="HWC")

    def _mistakes(self, task: "Task", guesses: Guesses, chosen: Tensor) -> list["Mistake"]:
        from kd_lightning.callbacks.pictures import Mistake

        (images, _), names = task.data.test_rows()[0], task.data.class_names
        found = []
        for row, label, *predicted in zip(*(values[chosen].tolist() for values in guesses), strict=True):
            own, teacher = ((names[predicted[at]], predicted[at + 1]) for at in (0, 2))
            found.append(Mistake(images[row].cpu(), names[label], own, teacher if self._has_teacher else None))
        return found


def _confusion(guesses: Guesses, classes: int) -> Tensor:
    """Return the number of images (num_classes, num_classes) by true and by predicted class."""
    return torch.bincount(guesses.labels * classes + guesses.classes, minlength=classes**2).reshape(classes, classes)


def _loggers(trainer: Trainer) -> list[TensorBoardLogger]:
    return [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
