"""A file of outputs as a teacher: its own logits, or what any other model made."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from kd_lightning.data.base import ImageDataModule
from kd_lightning.data.loader import Batch
from kd_lightning.digest import ROWS_AT_ONCE, digest
from kd_lightning.errors import UserError
from kd_lightning.losses.base import Loss
from kd_lightning.losses.total import UNKNOWN
from kd_lightning.networks import Network
from kd_lightning.networks.layers import LOGITS, Outputs, Shapes
from kd_lightning.teacher.base import AnyTeacher
from kd_lightning.teacher.cache import TeacherCache
from kd_lightning.teacher.extractors import AVERAGE, Extractors
from kd_lightning.teacher.file_fit import columns_in_order, likeliest, rows_in_order
from kd_lightning.teacher.outputs_file import read_outputs
from kd_lightning.teacher.table import Storage, choose_storage
from kd_lightning.teacher.targets import TeacherOutput, TeacherTargets

MIN_PROBABILITY = 1e-7
"""What smaller probabilities count as: the logarithm of 0 is infinite."""

TABLE = ("", LOGITS)
"""The key of the only table."""


class FileTeacher(AnyTeacher):
    """A file with a teacher's outputs for the training images, of ``export --logits`` or of any other model.

    A ``.npz`` of ``export --logits`` names its classes and describes its images. A ``.npy`` has a row for each training
    image, in the order of the data set and with those that validate, and a column for each class. A ``.csv`` may also
    have a heading with the classes, and file names in its first column, as ``predict --output`` writes it.

    Args:
        path: The file: ``.npz``, ``.npy`` or ``.csv``.
        outputs: Whether it holds ``logits`` or ``probabilities``, whose logarithms are then the logits (below 1e-7 they
            count as 1e-7). A ``.npz`` and the ``.csv`` of ``predict`` say it themselves; others hold logits by default.
        augmented: Whether a student may also learn from it with augmentation. All views of an image then have the
            target of the image as it is, which is known to be worse than the teacher's outputs for each view (Beyer et
            al., CVPR 2022, https://arxiv.org/abs/2106.05237); for flips it matters little.

    Raises:
        UserError: The file cannot be read, or holds something else than it says.
    """

    def __init__(
        self, path: str, outputs: Literal["logits", "probabilities"] | None = None, augmented: bool = False
    ) -> None:
        super().__init__()
        self.path = str(path)
        self.augmented = augmented
        self.file = read_outputs(Path(self.path))
        if None not in (outputs, self.file.kind) and outputs != self.file.kind:
            raise UserError(
                f"--model.teacher.outputs is {outputs}, but {path} says that it holds {self.file.kind}; leave it out."
            )
        self.outputs = self.file.kind or outputs or "logits"
        self.weights = self.path
        self.digest = digest(self.outputs, *self._parts())
        self.data: ImageDataModule | None = None
        self._rows = self._columns = torch.empty(0, dtype=torch.int64)

    def __deepcopy__(self, memo: object) -> Self:
        """Return itself: copies of a task, as for weight averages, share the file."""
        return self

    @property
    def title(self) -> str:
        """The file's name."""
        return f"the file {Path(self.path).name}"

    def named_networks(self) -> dict[str, Network]:
        """Return nothing: no network runs."""
        return {}

    def files(self) -> dict[str, tuple[str | None, str]]:
        """Return the file and its digest."""
        return {"--model.teacher.path": (self.path, self.digest)}

    def identity(self, data: ImageDataModule) -> tuple[object, ...]:
        """Return the digest."""
        return (self.digest,)

    def targets(self, losses: Mapping[str, Loss]) -> TeacherTargets:
        """Return what gives losses on logits their targets.

        Raises:
            UserError: A loss reads layers.
        """
        for name, loss in losses.items():
            if loss.teacher_layers:
                raise UserError(
                    f"the loss '{name}' reads layers of the teacher, but {self.path} holds only its outputs; use "
                    "losses on logits, or a teacher with a network."
                )
        return FileTargets(self, losses)

    def adapt(self, data: ImageDataModule, stage: str = "fit") -> list[str]:
        """Find the file's row of each training image, and refuse a file that does not fit them.

        Raises:
            UserError: It does not fit them by class, name, number, label or digest, its values are not what it says,
                or the student sees its images augmented.
        """
        self.data = data
        if stage == "test":
            return []
        if stage == "fit":
            self._check_augmentation(data)
        self._columns, self._rows = (find(self.file, self.path, data) for find in (columns_in_order, rows_in_order))
        labels, said = data.split("train").labels.cpu(), self.file.kind is not None
        best = likeliest(self.path, self.outputs, self._parts(), said=said)[self._rows]
        is_right = (best == self._columns[labels.clamp_min(0)])[labels >= 0]  # -1 is no label
        share = float(is_right.double().mean()) if len(is_right) else 1.0
        caution = ", no better than chance: check the order of its rows" if share * data.num_classes < 1.2 else ""
        return [f"is right on {100 * share:.2f} % of the training images{caution}"]

    def _check_augmentation(self, data: ImageDataModule) -> None:
        mixing = [type(step).__name__ for step in data.augment if step.mixes_labels]
        if mixing:
            raise UserError(
                f"{', '.join(mixing)} in --data.augment mixes images, but {self.path} has outputs for single images; "
                "leave it out, or name a teacher with a network."
            )
        if data.augment and not self.augmented:
            raise UserError(
                f"--data.augment changes the training images, but {self.path} has outputs for the images as they are; "
                "leave it out, name a teacher with a network, or take these outputs for all views with "
                "--model.teacher.augmented true."
            )

    @property
    def covers_stage(self) -> bool:
        """Whether the file has the images that run now: those that train, or validate and were split off."""
        assert self.data is not None
        trainer = self.data.trainer
        if trainer is None:
            return False
        return trainer.training or (trainer.validating and self.data.validates_on_training_set)

    def logits(self, rows: Tensor) -> Tensor:
        """Return the logits of training images by their rows, (B,) -> (B, num_classes), float32."""
        found = self._part(self._rows[rows.cpu()].numpy()).index_select(1, self._columns)
        return found.clamp_min(MIN_PROBABILITY).log() if self.outputs == "probabilities" else found

    def _part(self, rows: Any) -> Tensor:
        return torch.from_numpy(np.array(self.file.values[rows], np.float32))

    def _parts(self) -> Iterator[Tensor]:
        """Yield the file's values in parts."""
        for start in range(0, len(self.file.values), ROWS_AT_ONCE):
            yield self._part(slice(start, start + ROWS_AT_ONCE))


class FileTargets(TeacherTargets):
    """Look the targets of losses on logits up in a file.

    Args:
        teacher: The file.
        losses: The losses by name.
    """

    def __init__(self, teacher: FileTeacher, losses: Mapping[str, Loss]) -> None:
        super().__init__(Extractors({}), losses)
        self.teacher = teacher

    def shapes_of(self, loss: str) -> Shapes:
        """Return the shape of the logits."""
        return {LOGITS: (self.teacher.file.values.shape[1],)}

    def __call__(self, batch: Batch) -> TeacherOutput:
        """Return the targets of a batch; ``UNKNOWN`` for losses that need some of images that are not in the file."""
        if not self.teacher.covers_stage:
            losses = self.losses.items()
            return TeacherOutput({name: UNKNOWN if loss.learns_from_teacher else {} for name, loss in losses})
        table = self.tables.get(TABLE)
        rows = batch.rows if table is None else batch.rows.to(table.device)
        logits = self.teacher.logits(rows) if table is None else table.index_select(0, rows)
        logits = logits.to(batch.images.device, non_blocking=True)
        return TeacherOutput(self._targets({AVERAGE: Outputs(logits, {})}), logits)

    def on_device(self, device: torch.device) -> bool:
        """Return whether all targets are on a device."""
        return bool(self.tables) and super().on_device(device)

    def open(self, device: torch.device, processes: int) -> TeacherCache:
        """Copy the file to the GPU or into memory, where it fits there; elsewhere it stays memory-mapped.

        Args:
            device: Where training runs.
            processes: Processes that train on this machine.
        """
        images, classes = len(self.teacher._rows), self.teacher.file.values.shape[1]
        storage = choose_storage(images * classes * 4, device, processes) or Storage.DISK
        if storage is not Storage.DISK:
            table = torch.empty(images, classes, device=device if storage is Storage.DEVICE else "cpu")
            for rows in torch.arange(images).split(ROWS_AT_ONCE):
                table[rows[0] : rows[-1] + 1] = self.teacher.logits(rows)
            self.tables = {TABLE: table}
        return TeacherCache(images, images * classes * 4, storage)
