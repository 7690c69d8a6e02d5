"""The callbacks that a task brings to every trainer."""

from lightning.pytorch import Callback, Trainer

from kd_lightning.callbacks.averages import Averages, renew_averages
from kd_lightning.callbacks.cautions import Cautions
from kd_lightning.callbacks.check_start import CheckStart
from kd_lightning.callbacks.finite_values import FiniteValues
from kd_lightning.callbacks.keep_memory import KeepMemory
from kd_lightning.callbacks.loss_weights import LossWeights
from kd_lightning.callbacks.resume import Resume
from kd_lightning.callbacks.trainer_callbacks import callbacks_of

__all__ = ["callbacks_of_task", "renew_averages"]

KINDS: tuple[type[Callback], ...] = (CheckStart, Averages, LossWeights, FiniteValues, KeepMemory, Cautions, Resume)


def callbacks_of_task(trainer: Trainer) -> list[Callback]:
    """Return the callbacks that act around training, but for those that the trainer has from an earlier run.

    They follow the user's own, and ``Resume`` is the last: no callback draws between it and the first step.
    """
    return [kind() for kind in KINDS if not callbacks_of(trainer, kind)]
