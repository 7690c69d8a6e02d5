"""Tiny-ImageNet, in the layout in which it is published."""

from collections import Counter
from pathlib import Path
from typing import Any

import torch

from kd_lightning.data.class_names import check_class_names
from kd_lightning.data.decoded import DecodedDataModule
from kd_lightning.data.folder_files import Files
from kd_lightning.data.source import Split
from kd_lightning.errors import UserError
from kd_lightning.inference.image_files import image_names
from kd_lightning.wording import shown

ADDRESS = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"


class TinyImageNetDataModule(DecodedDataModule):
    """Serve Tiny-ImageNet: 100,000 training and 10,000 test images of 64 x 64 pixels in colour, 200 classes.

    The folder is that of the published archive: ``wnids.txt``, ``words.txt``, ``train/WNID/images/``, ``val/images/``
    and ``val/val_annotations.txt``. Its test images have no labels, so its validation images are the test images, as in
    papers; validation images are split off the training images. Classes are in the order of their WordNet numbers, as
    in most published weights, and have the first of their names in ``words.txt``.

    Images are decoded before training starts, on all cores, and cached on disk.

    Args:
        root: The folder ``tiny-imagenet-200``.
        image_size: Height and width in pixels to which the images are resized.

    Raises:
        UserError: The folder does not have this layout.
    """

    class_names: tuple[str, ...] = ()
    image_size = 64

    def __init__(self, root: str = "data/tiny-imagenet-200", image_size: int = 64, **kwargs: Any) -> None:
        super().__init__(Path(root), image_size, **kwargs)
        self.name = "Tiny-ImageNet"
        self._ids = sorted(line[0] for line in self._lines("wnids.txt"))
        check_class_names(self._ids)
        words = {line[0]: line[-1].partition(",")[0] for line in self._lines("words.txt")}
        names = [words.get(one, one) for one in self._ids]
        self.class_names = tuple(
            name if names.count(name) == 1 else f"{name} ({one})" for name, one in zip(names, self._ids, strict=True)
        )
        check_class_names(self.class_names)

    def list_images(self) -> dict[Split, Files]:
        """Return the training images and the labelled validation images, which are the test images."""
        return {"train": self._train_files(), "test": self._test_files()}

    def place_of(self, split: Split) -> Path:
        """Return the folder of a split."""
        return self.root / ("val" if split == "test" else "train")

    def _train_files(self) -> Files:
        found = [image_names(self.root / "train" / one / "images", Counter()) for one in self._ids]
        for one, names in zip(self._ids, found, strict=True):
            if not names:
                raise UserError(f"{self.root / 'train' / one / 'images'} holds no images; unpack {ADDRESS} again.")
        counts = torch.tensor([len(names) for names in found])
        return Files([name for names in found for name in names], torch.arange(len(found)).repeat_interleave(counts))

    def _test_files(self) -> Files:
        folder, numbers = self.root / "val" / "images", {one: number for number, one in enumerate(self._ids)}
        names, labels = [], []
        for line in self._lines("val/val_annotations.txt"):
            if len(line) < 2 or line[1] not in numbers or Path(line[0]).name != line[0]:
                raise UserError(
                    f"{self.root / 'val' / 'val_annotations.txt'} has the line '{shown(' '.join(line))}', which does "
                    f"not begin with a file's name and one of the numbers in wnids.txt; unpack {ADDRESS} again."
                )
            names.append(f"{folder.as_posix()}/{line[0]}")
            labels.append(numbers[line[1]])
        return Files(names, torch.tensor(labels, dtype=torch.int64))

    def _lines(self, name: str) -> list[list[str]]:
        """Return the fields of each line of a text file."""
        try:
            text = (self.root / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"{self.root} holds no {name} that can be read, so it is not Tiny-ImageNet; download {ADDRESS}, unpack "
                "it, and give the folder tiny-imagenet-200 with --data.root."
            ) from error
        lines = [line.split("\t") for line in text.splitlines() if line.strip()]
        if not lines:
            raise UserError(f"{self.root / name} is empty; unpack {ADDRESS} again.")
        return lines
