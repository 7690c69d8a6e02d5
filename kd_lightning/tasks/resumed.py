"""Checks that a task can resume from a checkpoint, or be measured with it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import WeightAveraging

from kd_lightning.data.compatibility import check_data
from kd_lightning.errors import UserError
from kd_lightning.networks.weights import INFO_KEY, parse_info
from kd_lightning.tasks.trainer_callbacks import callbacks_of

if TYPE_CHECKING:
    from kd_lightning.tasks.base import Task

ENDED_KEY = "ended"
"""Key under which checkpoints keep whether a callback has changed the weights when training ended."""


def check_origin(task: "Task", checkpoint: Mapping[str, Any]) -> str:
    """Refuse a checkpoint of other data, or one with a weight average that this run does not continue.

    Args:
        task: Its trainer loads the checkpoint.
        checkpoint: What Lightning has read.

    Returns:
        The checkpoint's path.

    Raises:
        UserError: It is of other data, or of a run with a weight average, and this run has none.
    """
    trainer, path = task.trainer, str(task.trainer.ckpt_path)
    if trainer.state.fn == "fit" and "current_model_state" in checkpoint and not callbacks_of(trainer, WeightAveraging):
        raise UserError(
            f"{path} is of a run that averages its weights, and contains the average in their place; add the "
            "callback of that run, such as --trainer.callbacks+=EMAWeightAveraging, or start a new run."
        )
    if INFO_KEY in checkpoint:
        check_data(path, parse_info(checkpoint[INFO_KEY], path), task.data)
    return path


def check_weights_fit(task: "Task", path: str, checkpoint: Mapping[str, Any]) -> None:
    """Refuse a checkpoint whose weights are not a task's.

    Args:
        task: It loads the checkpoint.
        path: The checkpoint's path, for the message.
        checkpoint: What Lightning has read.

    Raises:
        UserError: They have other names or shapes, or the checkpoint does not contain its training data's description.
    """
    own, found = task.state_dict(), checkpoint["state_dict"]
    if INFO_KEY not in checkpoint or {key: values.shape for key, values in own.items()} != {
        key: values.shape for key, values in found.items()
    }:
        raise UserError(
            f"{path} is for another network, --model.reparameterize or task than {type(task).__name__} with "
            f"{type(task.network).__name__} for {task.network.num_classes} classes, or does not say on which data it "
            "was trained; give --ckpt_path a checkpoint that fit has written with this config."
        )
