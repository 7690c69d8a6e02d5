"""The user's own images: one folder per class."""

from pathlib import Path
from typing import Any

from kd_lightning.data.decoded import DecodedDataModule
from kd_lightning.data.folder_files import Files, list_splits
from kd_lightning.data.folder_layout import find_layout
from kd_lightning.data.source import Split
from kd_lightning.wording import shown


class ImageFolderDataModule(DecodedDataModule):
    """Serve image files from one folder per class.

    The layout is ``train/CLASS/...``, ``test/CLASS/...`` and, if there are validation images, ``val/CLASS/...``, in any
    usual spelling (``training``, ``valid``, ``validation``, ``dev``, ``testing``, ``train_set``, ``Train``). Without
    ``test`` a part of the training images becomes the test images, the same part every time. A folder that holds the
    class folders themselves counts as ``train``. A class folder holds images itself; folders in it are searched, and
    links followed. Folders that would be ignored, or would count for two classes or splits, are refused; files that
    cannot be read as images are counted. Training images without labels come from the folder of the option
    ``unlabelled``, which may lie beside ``train`` and ``test`` under that name; without ``train`` no training image has
    a label, and the classes are those of ``test``.

    Images are decoded before training starts, on all cores, and cached on disk; the next start reads the cache
    until a file changes.

    Files of 8 bits keep their values. All wider ones (16 bits, floating-point) are scaled by one range, which is stored
    with the network: ``pixel_range``, or the smallest usual one that holds the values of all such training images.

    Args:
        root: The folder that holds ``train`` or the class folders.

    Raises:
        UserError: The folder does not have this layout.
    """

    class_names: tuple[str, ...] = ()

    def __init__(self, root: str, image_size: int = 32, **kwargs: Any) -> None:
        super().__init__(Path(root), image_size, **kwargs)
        self.name = shown(self.root.resolve().name)
        self._folders, self.class_names = find_layout(self.root, with_unlabelled=self.unlabelled is not None)

    @property
    def has_val(self) -> bool:
        """Whether there are validation images; known before loading."""
        return "val" in self._folders or ("train" in self._folders and super().has_val)

    def place_of(self, split: Split) -> Path:
        """Return the folder of a split; that of the training images where it is split off."""
        return self._folders.get(split) or self._folders.get("train", self.unlabelled or self.root)

    def list_images(self) -> dict[Split, Files]:
        """Return the image files of each split."""
        return list_splits(self.root, self._folders, self.class_names)
