"""What losses need of a frozen teacher for a batch: computed in every step, or looked up in tables."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from kd_lightning.data.loader import Batch
from kd_lightning.losses.base import Loss, Targets
from kd_lightning.networks.layers import Outputs, Shapes
from kd_lightning.teacher.extractors import AVERAGE, Extractors

Tables = dict[tuple[str, str], Tensor]
"""Tensors by the name of the loss that needs them and its key for them."""


class TeacherOutput(NamedTuple):
    """The teacher's outputs for a batch, as a task sees them.

    Attributes:
        targets: What each loss compares the student with, (B, ...) each, by the loss's name; ``UNKNOWN`` for a loss
            whose targets for these images are not known.
        logits: (B, num_classes); ``None`` where the targets come from the cache and the teacher did not run.
    """

    targets: dict[str, Targets]
    logits: Tensor | None = None


class TeacherTargets:
    """Return what each loss needs of the teacher for the images that the student sees.

    A tensor that several losses need, such as the logits, is cached once.

    Args:
        teachers: Run the teacher, or several, and return logits and the layers that the losses read.
        losses: The losses by name; ``teacher_layers`` and ``teacher_target`` of each define what it needs.

    Attributes:
        tables: The cache: a row per image and view, (views * N, ...), by the first loss that needs it. Feature maps are
            stored as (views * N, H, W, C), the memory order in which convolutions are fast.
        images: N, the images of the set that is trained on; 0 while nothing is cached.
    """

    def __init__(self, teachers: Extractors, losses: Mapping[str, Loss]) -> None:
        self.teachers = teachers
        self.losses = dict(losses)
        self.tables: Tables = {}
        self.images = 0
        self._first: dict[tuple[str, str], tuple[str, str]] = {}

    def shapes_of(self, loss: str) -> Shapes:
        """Return the shape of each layer of its teacher that a loss needs, and of the logits."""
        return self.teachers.shapes_of(loss)

    def layout_lines(self) -> list[str]:
        """Return a line for each of the teachers' layers whose output becomes a map."""
        return [line for network in self.teachers.networks.values() for line in network.layout_lines()]

    def __call__(self, batch: Batch) -> TeacherOutput:
        """Return the targets of a batch: looked up where its views are cached, computed otherwise."""
        if self.images and batch.views is not None:
            return TeacherOutput(self._looked_up(batch, batch.views))
        return self.compute(batch.images)

    @torch.no_grad()
    def compute(self, images: Tensor) -> TeacherOutput:
        """Run the teacher on normalized images (B, C, H, W)."""
        found = self.teachers(images)
        return TeacherOutput(self._targets(found), found[AVERAGE].logits)

    def _targets(self, outputs: Mapping[str, Outputs]) -> dict[str, Targets]:
        """Return what each loss needs of the outputs of its teacher."""
        of_loss = {name: outputs[self.teachers.teacher_of(name)] for name in self.losses}
        return {
            name: loss.teacher_target(of_loss[name].only(loss.teacher_layers)) for name, loss in self.losses.items()
        }

    def distinct(self, images: Tensor) -> Tables:
        """Return the targets of normalized images (B, C, H, W), each tensor once.

        A key also has the teacher's name where there are several: saved tables are found by it.
        """
        targets = self.compute(images).targets
        if not self._first:
            self._first = self._table_keys(targets)
        found: Tables = {}
        for (name, key), table in self._first.items():
            found.setdefault(table, targets[name][key])
        return found

    def _looked_up(self, batch: Batch, views: Tensor) -> dict[str, Targets]:
        rows = views * self.images + batch.rows
        found: Tables = {}
        for first, table in self.tables.items():
            target = table.index_select(0, rows.to(table.device)).to(batch.images.device, non_blocking=True)
            found[first] = target.permute(0, 3, 1, 2) if target.ndim == 4 else target  # (B, H, W, C) -> (B, C, H, W)
        targets: dict[str, Targets] = {name: {} for name in self.losses}
        for (name, key), first in self._first.items():
            targets[name][key] = found[first]
        return targets

    def on_device(self, device: torch.device) -> bool:
        """Return whether all tables are on a device."""
        return all(table.device == device for table in self.tables.values())

    def use_tables(self, tables: Tables, images: int) -> None:
        """Look targets up in tables from now on."""
        self.tables, self.images = tables, images

    def drop_tables(self) -> None:
        """Run the teacher in every step again."""
        self.tables, self.images, self._first = {}, 0, {}

    def _table_keys(self, targets: Mapping[str, Targets]) -> dict[tuple[str, str], tuple[str, str]]:
        """Return for each target the key of its table, by the first loss that has the same tensor."""
        first: dict[object, tuple[str, str]] = {}
        keys: dict[tuple[str, str], tuple[str, str]] = {}
        for name, own in targets.items():
            teacher = self.teachers.teacher_of(name)
            for key, target in own.items():
                tensor = target.data_ptr(), target.shape, target.stride(), target.dtype
                keys[name, key] = first.setdefault(tensor, (name, f"{teacher} {key}" if teacher else key))
        return keys
