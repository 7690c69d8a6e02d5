"""A data set of the Hugging Face hub, or of local parquet, arrow and JSON files."""

from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from kd_lightning.data.decoded import DecodedDataModule
from kd_lightning.data.folder_files import Files
from kd_lightning.data.source import Split
from kd_lightning.data.tables import (
    class_numbers,
    classes_of,
    find_column,
    images_of,
    is_on_hub,
    labels_of,
    load_splits,
)
from kd_lightning.wording import shown


class HuggingFaceDataModule(DecodedDataModule):
    """Serve a data set of the Hugging Face hub, or local parquet, arrow or JSON files; needs ``pip install datasets``.

    Its splits are ``train``, ``validation`` and ``test``, in any usual spelling; a warning names others. Without
    ``test`` a part of the training images becomes the test images, the same part every time. The classes are the names
    of the labels' ``ClassLabel``, or the training images' texts or whole numbers, sorted.

    Images are bytes in the table, or paths of files, which may be relative to the folder. They are decoded before
    training starts, on all cores, and cached on disk; the next start reads the cache until the data set changes. A row
    that cannot be read as an image is named by its number. No code of a data set is run.

    Args:
        path: A name on the hub, such as ``uoft-cs/cifar10``, or a local folder or file.
        image_column: The column of images; by default the only one of that kind, or else ``image`` or ``img``.
        label_column: The column of classes; by default the only one of that kind, or else ``label`` or ``labels``.
        subset: The part of a data set that has several, called its configuration on the hub.
        revision: Version on the hub: a commit, tag or branch; the newest by default.

    Raises:
        UserError: ``datasets`` is not installed, or the data set cannot be loaded or has no such columns.
    """

    def __init__(
        self,
        path: str,
        image_column: str | None = None,
        label_column: str | None = None,
        subset: str | None = None,
        revision: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(Path(path), **kwargs)
        self.name = shown(self.root.resolve().name)
        self.path, self.subset, self.revision = path, subset, revision
        self.hub_name = path if is_on_hub(path) else ""
        self._given = {"Image": image_column, "ClassLabel": label_column}

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes; this loads the tables, but no images."""
        return tuple(self._classes.values())

    @property
    def has_val(self) -> bool:
        """Whether there are validation images."""
        return "val" in self._labels or super().has_val

    def list_images(self) -> dict[Split, Files]:
        """Return the images of each split whose labels are known."""
        column = find_column(self._tables["train"], self._given["Image"], "Image", ("image", "img"))
        folder = self.root if self.root.is_dir() else self.root.parent
        return {
            split: Files(images_of(split, self._tables[split], column, folder), torch.tensor(labels))
            for split, labels in self._labels.items()
        }

    @cached_property
    def _tables(self) -> dict[Split, Any]:
        return load_splits(self.path, self.subset, self.revision)

    @cached_property
    def _label_column(self) -> str:
        return find_column(self._tables["train"], self._given["ClassLabel"], "ClassLabel", ("label", "labels"))

    @cached_property
    def _classes(self) -> dict[Any, str]:
        return classes_of(self._tables["train"], self._label_column)

    @cached_property
    def _labels(self) -> dict[Split, list[int]]:
        """The class indices of each split that has labels."""
        column = self._label_column
        found = {
            split: class_numbers(split, labels_of(table, column), self._classes)
            for split, table in self._tables.items()
        }
        return {split: numbers for split, numbers in found.items() if numbers is not None}
