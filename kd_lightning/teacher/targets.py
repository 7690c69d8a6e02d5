"""What losses need of a frozen teacher for a batch: computed in every step, or looked up in tables."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from kd_lightning.data.loader import Batch
from kd_lightning.losses.base import Targets
from kd_lightning.losses.total import LossSum
from kd_lightning.networks.layers import FeatureExtractor, Shapes

Tables = dict[tuple[str, str], Tensor]
"""Tensors by the name of the loss that needs them and its key for them."""


class TeacherOutput(NamedTuple):
    """The teacher's outputs for a batch, as a task sees them.

    Attributes:
        targets: What each loss compares the student with, (B, ...) each, by the loss's name.
        logits: (B, num_classes); ``None`` where the targets come from the cache and the teacher did not run.
    """

    targets: dict[str, Targets]
    logits: Tensor | None = None


class TeacherTargets:
    """Return what each loss needs of the teacher for the images that the student sees.

    A tensor that several losses need, such as the logits, is cached once.

    Args:
        network: Runs the teacher and returns its logits and the layers that the losses read.
        losses: The losses; ``teacher_layers`` and ``target`` of each define what it needs.

    Attributes:
        tables: The cache: a row per image and view, (views * N, ...), by the first loss that needs it. Feature maps are
            stored as (views * N, H, W, C), the memory order in which convolutions are fast.
        images: N, the images of the set that is trained on; 0 while nothing is cached.
    """

    def __init__(self, network: FeatureExtractor, losses: LossSum) -> None:
        self.network = network
        self.losses = losses
        self.tables: Tables = {}
        self.images = 0
        self._first: dict[tuple[str, str], tuple[str, str]] = {}

    @property
    def shapes(self) -> Shapes:
        """The shape of each of the teacher's layers that a loss needs, and of its logits."""
        return self.network.shapes

    def __call__(self, batch: Batch) -> TeacherOutput:
        """Return the targets of a batch: looked up where its views are cached, computed otherwise."""
        if self.images and batch.views is not None:
            return TeacherOutput(self._looked_up(batch, batch.views))
        return self.compute(batch.images)

    @torch.no_grad()
    def compute(self, images: Tensor) -> TeacherOutput:
        """Run the teacher on normalized images (B, C, H, W)."""
        outputs = self.network(images)
        return TeacherOutput(self.losses.teacher_targets(outputs), outputs.logits)

    def distinct(self, images: Tensor) -> Tables:
        """Return the targets of normalized images (B, C, H, W), each tensor once."""
        targets = self.compute(images).targets
        if not self._first:
            self._first = _first_keys(targets)
        return {(name, key): targets[name][key] for name, key in dict.fromkeys(self._first.values())}

    def _looked_up(self, batch: Batch, views: Tensor) -> dict[str, Targets]:
        rows = views * self.images + batch.rows
        found: Tables = {}
        for first, table in self.tables.items():
            target = table.index_select(0, rows.to(table.device)).to(batch.images.device, non_blocking=True)
            found[first] = target.permute(0, 3, 1, 2) if target.ndim == 4 else target  # (B, H, W, C) -> (B, C, H, W)
        targets: dict[str, Targets] = {name: {} for name in self.losses.named}
        for (name, key), first in self._first.items():
            targets[name][key] = found[first]
        return targets

    def use_tables(self, tables: Tables, images: int) -> None:
        """Look targets up in tables from now on."""
        self.tables, self.images = tables, images

    def drop_tables(self) -> None:
        """Run the teacher in every step again."""
        self.tables, self.images, self._first = {}, 0, {}


def _first_keys(targets: Mapping[str, Targets]) -> dict[tuple[str, str], tuple[str, str]]:
    """Return for each target the first (loss, key) that has the same tensor."""
    first: dict[object, tuple[str, str]] = {}
    return {
        (name, key): first.setdefault((target.data_ptr(), target.shape, target.stride(), target.dtype), (name, key))
        for name, own in targets.items()
        for key, target in own.items()
    }
