"""The image files of each split, listed class by class."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from kd_lightning.data.folder_layout import check_level
from kd_lightning.data.source import Split
from kd_lightning.data.split import stratified_split
from kd_lightning.data.unlabelled import UNLABELLED
from kd_lightning.errors import UserError
from kd_lightning.inference.image_files import image_names, left_out_line
from kd_lightning.inference.images import ImageFile


class Files(NamedTuple):
    """The images of a split and their class indices, (N,); ``UNLABELLED`` for those without a label."""

    names: Sequence[ImageFile]
    labels: Tensor


def list_splits(root: Path, folders: Mapping[Split, Path], class_names: Sequence[str]) -> dict[Split, Files]:
    """List the images of all splits, and warn of files that are left out.

    Args:
        root: The data set's root folder.
        folders: The folder of each split.
        class_names: Names of the classes.

    Raises:
        UserError: A folder cannot be read, holds no images, or belongs to two splits or classes.
    """
    left_out = Counter[str]()
    files = {split: _list_files(folder, class_names, left_out) for split, folder in folders.items()}
    _check_counted_once([str(name) for split in files.values() for name in split.names])
    if (line := left_out_line(root, left_out)) is not None:
        rank_zero_warn(line)
    return files


def _list_files(folder: Path, class_names: Sequence[str], left_out: Counter[str]) -> Files:
    """List the images of a split, class by class."""
    listed: dict[Path, list[str]] = {}
    for place in [folder / name for name in class_names]:
        others = Counter[str]()
        listed[place] = image_names(place, others) if place.is_dir() else []
        if not listed[place] and place.is_dir():
            why = left_out_line(place, others)
            raise UserError(f"the class folder {place} holds no images; {why or 'add some or remove the folder.'}")
        left_out.update(others)
    names = [name for found in listed.values() for name in found]
    if not names:
        raise UserError(f"{folder} holds no class folders; add them or remove the folder.")
    check_level(listed)
    counts = torch.tensor([len(found) for found in listed.values()])
    return Files(names, torch.arange(len(counts)).repeat_interleave(counts))


def _check_counted_once(names: Sequence[str]) -> None:
    """Raise if a link makes a folder's images count for two classes or splits."""
    known: dict[str, str] = {}
    for folder in sorted({name.rpartition("/")[0] for name in names}):
        other = known.setdefault(os.path.realpath(folder), folder)
        if other != folder:
            raise UserError(
                f"{folder} and {other} are the same folder, whose images would count for both; remove one of them."
            )


def with_unlabelled(files: Mapping[Split, Files], folder: Path) -> dict[Split, Files]:
    """Return the images of all splits, with those of a folder as further training images, which have no label.

    Raises:
        UserError: The folder cannot be read, holds no images, or holds images of a split.
    """
    left_out = Counter[str]()
    names = image_names(folder, left_out)
    line = left_out_line(folder, left_out)
    if not names:
        raise UserError(f"--data.unlabelled {folder} holds no images; {line or 'add some or leave the option out.'}")
    if line is not None:
        rank_zero_warn(line)
    known = _folders(name for split in files.values() for name in split.names if isinstance(name, str))
    if both := known & _folders(names):
        raise UserError(
            f"--data.unlabelled {folder} holds {min(both)}, whose images count for a class or a split already; give a "
            "folder of other images."
        )
    labelled = files.get("train", Files([], torch.zeros(0, dtype=torch.int64)))
    labels = torch.cat([labelled.labels, torch.full((len(names),), UNLABELLED)])
    result: dict[Split, Files] = {"train": Files([*labelled.names, *names], labels)}
    return result | {split: listed for split, listed in files.items() if split != "train"}


def _folders(names: Iterable[str]) -> set[str]:
    """Return the folders of files, without links."""
    return {os.path.realpath(folder) for folder in {name.rpartition("/")[0] for name in names}}


def part(files: Files, size: float, seed: int) -> tuple[Files, Files]:
    """Split the files in two, stratified.

    Raises:
        UserError: The second part would be empty.
    """
    both = stratified_split(files.labels, size, seed)
    if not len(both[1]):
        raise UserError(
            f"{len(files.names)} images are too few to split off a share of {size:g} of each class for testing; "
            "add a folder test/ or set --data.test_size."
        )
    first, second = (Files([files.names[row] for row in rows.tolist()], files.labels[rows]) for rows in both)
    return first, second
