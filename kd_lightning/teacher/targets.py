"""What losses need of a frozen teacher for a batch: asked in every step, or looked up in tables."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from kd_lightning.data.loader import Batch
from kd_lightning.losses import Loss, Targets
from kd_lightning.losses.pairs import tapped
from kd_lightning.networks.layers import Shapes
from kd_lightning.teacher.teacher import Teacher


class TeacherOutput(NamedTuple):
    """What a task gets to know of the teacher for a batch.

    Attributes:
        targets: What its losses compare the student with, (B, ...) each.
        logits: (B, num_classes); ``None`` where the targets were remembered and the teacher did not run.
    """

    targets: Targets
    logits: Tensor | None = None


class TeacherTargets:
    """Give what the losses need of the teacher for the images that the student sees.

    Losses that need the same tensor, such as the logits, share it.

    Args:
        teacher: The teacher.
        losses: The losses by name; each says by ``teacher_layers`` and ``target`` what it needs.

    Attributes:
        tables: What is remembered: a row an image and view, (views * N, ...), by the target's key. Maps lie as
            (views * N, H, W, C), in the memory order that convolutions are fast with.
        images: N, the images of the set that is trained on; 0 while nothing is remembered.
    """

    def __init__(self, teacher: Teacher, losses: Mapping[str, Loss]) -> None:
        self.losses = tuple(losses.values())
        self.network = tapped(teacher, teacher.network, losses, lambda loss: loss.teacher_layers)
        self.tables: Targets = {}
        self.images = 0

    @property
    def shapes(self) -> Shapes:
        """The shape of each of the teacher's layers that a loss needs, and of its logits."""
        return self.network.shapes

    def __call__(self, batch: Batch) -> TeacherOutput:
        """Return the targets of a batch: looked up where its views are remembered, and else asked for."""
        if self.images and batch.views is not None:
            return TeacherOutput(self._looked_up(batch, batch.views))
        return self.asked(batch.images)

    @torch.no_grad()
    def asked(self, images: Tensor) -> TeacherOutput:
        """Ask the teacher about normalized images (B, C, H, W)."""
        outputs = self.network(images)
        targets: Targets = {}
        for loss in self.losses:
            targets |= loss.target(outputs)
        return TeacherOutput(targets, outputs.logits)

    def _looked_up(self, batch: Batch, views: Tensor) -> Targets:
        rows = views * self.images + batch.rows
        found = {}
        for key, table in self.tables.items():
            target = table.index_select(0, rows.to(table.device)).to(batch.images.device, non_blocking=True)
            found[key] = target.permute(0, 3, 1, 2) if target.ndim == 4 else target  # (B, H, W, C) -> (B, C, H, W)
        return found

    def remember(self, tables: Targets, images: int) -> None:
        """Look targets up in tables from now on."""
        self.tables, self.images = tables, images

    def forget(self) -> None:
        """Ask the teacher in every step again."""
        self.tables, self.images = {}, 0
