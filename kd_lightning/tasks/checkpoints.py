"""What a task's checkpoints say about network, data and losses, and which of them a task can load."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lightning.pytorch.callbacks import WeightAveraging

from kd_lightning.callbacks.trained import training_record
from kd_lightning.callbacks.trainer_callbacks import callbacks_of
from kd_lightning.data.compatibility import check_data
from kd_lightning.errors import UserError
from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.networks.fusable import fused_weights, is_reparameterized
from kd_lightning.networks.weights import INFO_KEY, PLAIN_KEY, network_weights, parse_info

if TYPE_CHECKING:
    from kd_lightning.tasks.task import Task
    from kd_lightning.teacher import AnyTeacher

IMAGES_KEY = "images"
"""Key under which checkpoints keep the number of images that the losses were trained on."""


TEACHER_KEY = "teacher"
"""Key under which checkpoints identify their teacher."""


def model_info(task: "Task") -> ModelInfo:
    """Return what a file of a task's network contains besides its weights."""
    network, data = task.network, task.data
    return ModelInfo(
        network=network.class_path,
        arguments=network.arguments,
        class_names=data.class_names,
        mean=data.normalization.mean,
        std=data.normalization.std,
        image_size=data.image_size,
        data=data.name,
        pixel_range=data.pixel_range,
    )


def describe_checkpoint(task: "Task", checkpoint: dict[str, Any]) -> None:
    """Add the description of network and data to a checkpoint, and the fused weights of a re-parameterized network."""
    checkpoint[IMAGES_KEY] = task.images
    checkpoint[INFO_KEY] = replace(model_info(task), **training_record(task.trainer)).to_plain()
    if is_reparameterized(task.network):  # averaged weights where a callback has put them into the checkpoint
        checkpoint[PLAIN_KEY] = fused_weights(task.network, network_weights(checkpoint["state_dict"]))


def check_checkpoint(task: "Task", checkpoint: Mapping[str, Any]) -> None:
    """Refuse a checkpoint that a task cannot load, and size what its losses keep of each image as in it.

    Raises:
        UserError: It is of other data, images, another network or another task; or of a run with a weight average, and
            this run has none.
    """
    trainer = task._trainer  # none in load_from_checkpoint
    path, is_fit = "this file", False
    if trainer is not None:
        path, is_fit = str(trainer.ckpt_path), trainer.state.fn == "fit"
        if is_fit and "current_model_state" in checkpoint and not callbacks_of(trainer, WeightAveraging):
            raise UserError(
                f"{path} is of a run that averages its weights, and contains the average in their place; add the "
                "callback of that run, such as --trainer.callbacks+=EMAWeightAveraging, or start a new run."
            )
        if INFO_KEY in checkpoint:
            check_data(path, parse_info(checkpoint[INFO_KEY], path), task.data)
    if not is_fit:
        task.start_losses(checkpoint.get(IMAGES_KEY, 0), None)
    _check_weights(task, path, checkpoint)


def _check_weights(task: "Task", path: str, checkpoint: Mapping[str, Any]) -> None:
    own = {key: values.shape for key, values in task.state_dict().items()}
    found = {key: values.shape for key, values in checkpoint["state_dict"].items()}
    images = checkpoint.get(IMAGES_KEY, 0)
    if images != task.images and any(found.get(key, own[key]) != own[key] for key in own if key.startswith("losses.")):
        raise UserError(
            f"the losses of {path} keep something of each of {images} images, but the data has {task.images}; give "
            "the images that it was trained on, or start a new run without --ckpt_path."
        )
    if INFO_KEY not in checkpoint or own != found:
        raise UserError(
            f"{path} is for another network, --model.reparameterize or task than {type(task).__name__} with "
            f"{type(task.network).__name__} for {task.network.num_classes} classes, or does not say on which data it "
            "was trained; give --ckpt_path a checkpoint that fit has written with this config."
        )


def teacher_record(teacher: "AnyTeacher") -> dict[str, Any]:
    """Return what a checkpoint says of its teacher: its digest, and the file and the digest of each of its parts."""
    files = {option: {"weights": weights, "digest": own} for option, (weights, own) in teacher.files().items()}
    return {"weights": teacher.weights, "digest": teacher.digest, "files": files}


def check_teacher(task: "Task", teacher: "AnyTeacher", checkpoint: Mapping[str, Any]) -> None:
    """Refuse a checkpoint that learned from another teacher.

    Raises:
        UserError: It did.
    """
    learned = checkpoint.get(TEACHER_KEY, {})
    if task._trainer is None or learned.get("digest", teacher.digest) == teacher.digest:
        return
    path, before = task.trainer.ckpt_path, learned.get("files", {"--model.teacher.weights": learned})
    for option, (found, own) in teacher.files().items():
        of_part = before.get(option, {})
        learned_from = of_part.get("weights")
        if of_part.get("digest") == own:
            continue
        if learned_from == found:
            raise UserError(f"the teacher {found} has been replaced since {path} learned from it; put it back.")
        if learned_from is not None:
            raise UserError(
                f"{path} learned from the teacher {learned_from}, not from {found}; add {option} {learned_from}."
            )
    raise UserError(f"{path} learned from other teachers, or another average of them; give --model.teacher as it was.")
