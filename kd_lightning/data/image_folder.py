"""Images of one's own: a folder a class."""

import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from kd_lightning.data.base import ImageDataModule, Split
from kd_lightning.data.class_names import check_class_names
from kd_lightning.data.decode import Decoded, decode_images
from kd_lightning.data.loader import LabelledImages
from kd_lightning.data.split import stratified_split
from kd_lightning.errors import UserError
from kd_lightning.images import BrokenImageError, Pixels, image_names
from kd_lightning.normalize import Normalization
from kd_lightning.wording import shown

SPLITS: tuple[Split, ...] = ("train", "val", "test")
NO_CLASSES = {"train", "training", "val", "valid", "validation", "test", "testing"}
"""Folders that are splits, whatever their spelling, and never classes."""


class _Files(NamedTuple):
    """The image files of a split and their class indices, (N,)."""

    names: list[str]
    labels: Tensor


class ImageFolderDataModule(ImageDataModule):
    """Serve image files that lie in a folder a class.

    The layout is ``train/CLASS/...``, ``test/CLASS/...`` and, if there are validation images, ``val/CLASS/...``.
    Without ``test`` a part of the training images becomes the test images, the same part every time. A folder that
    holds the class folders themselves counts as ``train``. Folders in the class folders are searched, too.

    Images are decoded before training starts, on all cores, and kept in a cache on disk that the next start reads in
    their place until a file changes.

    Args:
        root: The folder that holds ``train`` or the class folders.
        image_size: Height and width in pixels to which the images are resized.
        channels: 3 for colour, 1 for grey.
        test_size: Test images that are split off the training images where there is no ``test``, stratified: a share in
            (0, 1) or a number of images.
        on_broken: Whether images that cannot be read ``stop`` the run before it starts, all of them listed, or are left
            out (``skip``).
        cache_dir: Folder of the cache; ``kd_lightning`` in the user's folder of caches where it is not given.
        normalize: ``auto`` (the exact statistics of the training images), ``imagenet`` (3 channels), or a mean and std
            a channel.

    Raises:
        UserError: The folder does not have this layout.
    """

    class_names: tuple[str, ...] = ()
    in_channels = 3
    image_size = 32

    def __init__(
        self,
        root: str,
        image_size: int = 32,
        channels: Literal[1, 3] = 3,
        test_size: float = 0.2,
        on_broken: Literal["stop", "skip"] = "stop",
        cache_dir: str | None = None,
        normalize: Literal["imagenet", "auto"] | Normalization = "auto",
        **kwargs: Any,
    ) -> None:
        super().__init__(normalize=normalize, **kwargs)
        if image_size < 1:
            raise UserError(f"image_size {image_size} must be 1 pixel or more; set --data.image_size.")
        if test_size <= 0:
            raise UserError(
                f"test_size {test_size} must be a share in (0, 1) or a number of images; set --data.test_size."
            )
        self.root = Path(root)
        self.name = shown(self.root.resolve().name)
        self.image_size = image_size
        self.in_channels = channels
        self.test_size = test_size
        self.on_broken: Literal["stop", "skip"] = on_broken
        self.cache_dir = cache_dir
        self._folders = _split_folders(self.root)
        self.class_names = _class_names(self._folders, self.root)

    @property
    def has_val(self) -> bool:
        """Whether there are validation images; known before loading."""
        return "val" in self._folders or super().has_val

    @property
    def broken(self) -> tuple[BrokenImageError, ...]:
        """The files that cannot be read and were left out; all splits are decoded for it."""
        return self._decoded.broken

    def prepare_data(self) -> None:
        """Decode all images once a machine, so that broken ones stop the run before it starts."""
        _ = self._splits

    def load(self, split: Split) -> LabelledImages | None:
        """Return a split; ``None`` for ``val`` where there is no such folder."""
        return self._splits.get(split)

    @cached_property
    def _files(self) -> dict[Split, _Files]:
        """All image files, with the test images split off if need be."""
        files = {split: _list_files(folder, self.class_names) for split, folder in self._folders.items()}
        if "test" not in files:
            files["train"], files["test"] = _part(files["train"], self.test_size, self.split_seed)
        return files

    @cached_property
    def _decoded(self) -> Decoded:
        """The images of all splits, one split after the other."""
        names = [name for files in self._files.values() for name in files.names]
        decoded = decode_images(
            names,
            self.image_size,
            self.in_channels,
            root=self.root,
            on_broken=self.on_broken,
            cache_dir=self.cache_dir,
        )
        if decoded.broken:
            first = decoded.broken[0]
            rank_zero_warn(
                f"{len(decoded.broken):,} of {len(names):,} images cannot be read and are left out; "
                f"the first is {shown(first.path)}: {shown(first.reason)}."
            )
        return decoded

    @cached_property
    def _splits(self) -> dict[Split, LabelledImages]:
        images, kept, _ = self._decoded
        splits: dict[Split, LabelledImages] = {}
        start = 0
        for split, files in self._files.items():
            first, last = np.searchsorted(kept, [start, start + len(files.names)])
            labels = files.labels[torch.from_numpy(kept[first:last] - start)]
            splits[split] = LabelledImages(_as_tensor(images[first:last]), labels)
            start += len(files.names)
        self._check_left(splits)
        return splits

    def _check_left(self, splits: dict[Split, LabelledImages]) -> None:
        """Raise if all images of a split, or all training images of a class, are broken."""
        for split, data in splits.items():
            if not len(data.labels):
                raise UserError(f"no {split} image can be read; mend them or remove the folder {self.root / split}.")
        counts = torch.bincount(splits["train"].labels, minlength=len(self.class_names)).tolist()
        for name, count in zip(self.class_names, counts, strict=True):
            if count == 0:
                raise UserError(f"no training image of the class {name} can be read; mend them or remove its folder.")


def _split_folders(root: Path) -> dict[Split, Path]:
    """Return the folder of each split that is there."""
    if not root.is_dir():
        raise UserError(f"there is no folder {root}; give the folder of your images with --data.root.")
    if not (root / "train").is_dir():
        if any(name.lower() in NO_CLASSES for name in _folders_in(root)):
            raise UserError(_expected(root))
        return {"train": root}
    return {split: root / split for split in SPLITS if (root / split).is_dir()}


def _class_names(folders: dict[Split, Path], root: Path) -> tuple[str, ...]:
    """Return the training images' classes, after checking that they are all there are."""
    names = _folders_in(folders["train"])
    if len(names) < 2:
        raise UserError(_expected(root))
    check_class_names(names)
    for folder in folders.values():
        unknown = sorted(set(_folders_in(folder)) - set(names))
        if unknown:
            raise UserError(
                f"{folder} holds {_shown(unknown)}, but {folders['train']} has no class of that name; "
                "rename the folder or add training images."
            )
    return tuple(names)


def _folders_in(folder: Path) -> list[str]:
    return sorted(name.removesuffix("/") for name in _entries(folder) if name.endswith("/"))


def _entries(folder: Path) -> list[str]:
    """List what lies in a folder, sorted, without hidden entries; the names of folders end with a slash."""
    try:
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
        return sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in entries)
    except OSError as error:
        raise UserError(f"cannot list {folder}: {error.strerror}; make the folder readable.") from error


def _expected(root: Path) -> str:
    return (
        f"{root} must hold train/CLASS/IMAGE and test/CLASS/IMAGE (val/ and test/ may be missing), or CLASS/IMAGE, "
        f"with two classes or more, but it holds {_shown(_entries(root))}; choose the right folder with --data.root."
    )


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") or "nothing"


def _list_files(folder: Path, class_names: Sequence[str]) -> _Files:
    """List the images of a split, class by class."""
    names: list[str] = []
    counts = []
    for name in class_names:
        found = image_names(folder / name) if (folder / name).is_dir() else []
        if not found and (folder / name).is_dir():
            raise UserError(f"the class folder {folder / name} holds no images; add some or remove the folder.")
        names += found
        counts.append(len(found))
    if not names:
        raise UserError(f"{folder} holds no class folders; add them or remove the folder.")
    return _Files(names, torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)))


def _part(files: _Files, size: float, seed: int) -> tuple[_Files, _Files]:
    """Part the files in two, stratified."""
    both = stratified_split(files.labels, size, seed)
    if not len(both[1]):
        raise UserError(
            f"{len(files.names)} images are too few to split off a share of {size:g} of each class for testing; "
            "add a folder test/ or set --data.test_size."
        )
    first, second = (_Files([files.names[row] for row in rows.tolist()], files.labels[rows]) for rows in both)
    return first, second


def _as_tensor(images: Pixels) -> Tensor:
    """Make a tensor that shares the array's memory; nobody writes to it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(images)
