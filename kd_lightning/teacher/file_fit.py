"""Whether a file of outputs fits the training images: by class, name, number, label and digest."""

from collections.abc import Iterable

import torch
from torch import Tensor

from kd_lightning.data.base import ImageDataModule
from kd_lightning.digest import digest
from kd_lightning.errors import UserError
from kd_lightning.teacher.outputs_file import OutputsFile, in_common_folder
from kd_lightning.wording import counted, shortened, shown

MAX_ROUNDING = 0.05
"""Largest difference of a sum of probabilities from 1: those of many classes are rounded."""


def columns_in_order(file: OutputsFile, path: str, data: ImageDataModule) -> Tensor:
    """Return the column of each of the data's classes, (num_classes,).

    Raises:
        UserError: The classes differ.
    """
    columns, names = file.values.shape[1], [shown(name) for name in data.class_names]
    if columns != len(names):
        raise UserError(f"{path} has {counted(columns, 'column')}, but the data has {len(names)} classes.")
    if file.classes is None:
        return torch.arange(columns)
    known = {shown(name): column for column, name in enumerate(file.classes)}
    missing = [name for name in names if name not in known]
    if missing or len(known) != columns:
        theirs, ours = (shortened(", ".join(found), 200) for found in (known, names))
        raise UserError(f"{path} is for the classes {theirs}, but the data has {ours}.")
    return torch.tensor([known[name] for name in names])


def rows_in_order(file: OutputsFile, path: str, data: ImageDataModule) -> Tensor:
    """Return the row of each training image, (N,).

    Raises:
        UserError: The file does not have them all, or describes other images.
    """
    images, labels = data.split("train")
    rows = _rows(file, path, data, len(labels))
    if file.labels is not None and not torch.equal(torch.from_numpy(file.labels.astype("i8"))[rows], labels.cpu()):
        raise UserError(f"the labels in {path} are not those of the training images; it was written for other images.")
    same_images = torch.equal(rows, torch.arange(len(rows))) and file.image_size == data.image_size
    if file.digest is not None and same_images and file.digest != digest(images):
        raise UserError(
            f"{path} was written for other images: their digest is not that of the training images; write it again "
            "with `kd-lightning export --logits`."
        )
    return rows


def _rows(file: OutputsFile, path: str, data: ImageDataModule, images: int) -> Tensor:
    own = data.file_names
    if file.names is None or own is None:
        if file.names is not None:
            raise UserError(f"{path} has names of image files, but {data.name} has none; leave them out.")
        if len(file.values) != images:
            raise UserError(
                f"{path} has {counted(len(file.values), 'row')}, but the data set has {counted(images, 'image')} for "
                "training and validation; it needs one a row, in this order."
            )
        return torch.arange(images)
    found = {name: row for row, name in enumerate(in_common_folder(file.names))}
    missing = [name for name in in_common_folder(own) if name not in found]
    if missing or len(found) != len(file.names):
        reason = f"no row for {len(missing):,} of {images:,} images, such as {shown(missing[0])}" if missing else ""
        raise UserError(f"{path} has {reason or 'several rows with one name'}; write it for these images.")
    return torch.tensor([found[name] for name in in_common_folder(own)])


def likeliest(path: str, kind: str, parts: Iterable[Tensor], *, said: bool) -> Tensor:
    """Return the likeliest column of each row, (N,).

    Args:
        path: The file.
        kind: Whether it holds ``logits`` or ``probabilities``.
        parts: Its values, (n, num_classes) each.
        said: Whether the file itself says so.

    Raises:
        UserError: The values are not finite, or not what they are to be.
    """
    found, look_alike = [], not said
    for part in parts:
        if not part.isfinite().all():
            raise UserError(f"{path} has values that are not finite.")
        is_share = bool((part >= 0).all() and ((part.sum(1) - 1).abs() < MAX_ROUNDING).all())
        if kind == "probabilities" and not is_share:
            raise UserError(f"{path} holds no probabilities: some are below 0, or do not add up to 1.")
        look_alike &= is_share
        found.append(part.argmax(1))
    if kind == "logits" and look_alike:
        raise UserError(f"{path} holds probabilities, which add up to 1; set --model.teacher.outputs probabilities.")
    return torch.cat(found)
