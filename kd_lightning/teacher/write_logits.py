"""Write a teacher's logits for the training images to a file that ``FileTeacher`` reads."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kd_lightning.data.base import ImageDataModule
from kd_lightning.digest import digest
from kd_lightning.machine.progress import with_progress
from kd_lightning.teacher.cached_rows import IMAGES_AT_ONCE
from kd_lightning.teacher.outputs_file import in_common_folder, write_outputs
from kd_lightning.teacher.teacher import Teacher
from kd_lightning.wording import counted


def write_logits(teacher: Teacher, data: ImageDataModule, path: Path) -> tuple[str, list[str]]:
    """Write the logits for all training images, with those that validate, in the order of the data set.

    The batches are those of the teacher cache, so that both have the same logits.

    Args:
        teacher: The teacher, which fits the data.
        data: The data.
        path: The ``.npz`` file.

    Returns:
        How many images, in words, and how the teacher sees them, a clause each.

    Raises:
        UserError: The teacher does not fit the data, or the file cannot be written.
    """
    done = teacher.adapt(data)
    teacher.network.to_channels_last()
    images, labels = data.split("train")
    about: dict[str, Any] = {
        "classes": list(data.class_names),
        "labels": labels.cpu().numpy(),
        "digest": digest(images),
        "image_size": data.image_size,
    }
    if data.file_names is not None:
        about["names"] = in_common_folder(data.file_names)
    parts = with_progress(_logits(teacher, data, images), "Running the teacher", len(images), len)
    write_outputs(path, parts, (len(images), data.num_classes), about)
    return counted(len(images), "training image"), done


@torch.no_grad()
def _logits(teacher: Teacher, data: ImageDataModule, images: Tensor) -> Iterator[Tensor]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    teacher.to(device)
    for pixels in images.split(IMAGES_AT_ONCE):
        seen = data.normalization.apply(pixels.to(device).permute(0, 3, 1, 2))  # (B, H, W, C) -> (B, C, H, W)
        yield teacher(seen).float().cpu()
