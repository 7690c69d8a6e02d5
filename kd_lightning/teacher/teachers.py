"""Several teachers of one student."""

from collections.abc import Mapping, Sequence
from itertools import chain
from math import isfinite
from typing import Literal

import torch
from torch import Tensor, nn

from kd_lightning.data.base import ImageDataModule
from kd_lightning.digest import digest
from kd_lightning.errors import UserError, require_object
from kd_lightning.losses.base import Loss, to_float32
from kd_lightning.losses.logits import log_probabilities
from kd_lightning.networks import Network
from kd_lightning.teacher.base import AnyTeacher
from kd_lightning.teacher.extractors import Extractors
from kd_lightning.teacher.targets import TeacherTargets
from kd_lightning.teacher.teacher import Teacher

CALL = 'Teachers({"big": Teacher(ResNet9()), "wide": Teacher(WideResNet())})'
"""An example of teachers."""


class Teachers(AnyTeacher):
    """Several teachers: losses on logits learn from their average, or each loss from a teacher that it names.

    ``average`` says what is averaged. ``logits``: ``sum_k w_k z_k``, in which a teacher of larger logits counts for
    more. ``probabilities``: ``log sum_k w_k softmax(z_k)``, the logarithm of the mean probability (an ensemble, as in
    Hinton et al., 2015, https://arxiv.org/abs/1503.02531), whose softmax is that mean. The ``w_k`` are the shares,
    divided by their sum.

    Args:
        members: The teachers by names of your choice, each with its own network, weights, normalization and image size.
        average: What is averaged: ``logits`` or ``probabilities``.
        shares: Share of a teacher in the average, above 0, by its name; 1 for those that it does not name.
        by_loss: Name of the teacher that a loss learns from, by the loss's name; all others learn from the average.
            A loss on layers needs one.

    Raises:
        UserError: There is no teacher, a name is unknown, or a share is not above 0.
    """

    def __init__(
        self,
        members: dict[str, Teacher],
        average: Literal["logits", "probabilities"] = "logits",
        shares: dict[str, float] | None = None,
        by_loss: dict[str, str] | None = None,
    ) -> None:
        super().__init__()
        if not members:
            raise UserError(f"--model.teacher.members names no teacher; name two or more, as in {CALL}.")
        for name, teacher in members.items():
            require_object(f"the teacher '{name}'", teacher, Teacher, CALL)
            if not name.isidentifier():
                raise UserError(f"a teacher is called '{name}'; give it a name of letters, digits and _.")
        self.members = dict(members)
        self.average = average
        self.by_loss = dict(by_loss or {})
        self.shares = [float((shares or {}).get(name, 1.0)) for name in members]
        for name in chain(shares or {}, self.by_loss.values()):
            if name not in members:
                raise UserError(f"there is no teacher '{name}' in --model.teacher; name one of {', '.join(members)}.")
        for name, share in zip(members, self.shares, strict=True):
            if not (share > 0 and isfinite(share)):
                raise UserError(f"--model.teacher.shares.{name} is {share:g}, but it must be above 0.")
        self.modules_of_members = nn.ModuleList(members.values())
        found = [teacher.weights for teacher in members.values()]
        self.weights = None if None in found else ", ".join(map(str, found))
        self.digest = digest(average, self.shares, *(teacher.digest for teacher in members.values()))

    def named_networks(self) -> dict[str, Network]:
        """Return the network of each teacher by the teacher's name."""
        return {name: teacher.network for name, teacher in self.members.items()}

    def network_of(self, loss: str) -> tuple[Network, Tensor | None]:
        """Return the network of the teacher that the loss names."""
        return self.members[self.by_loss[loss]].network_of(loss)

    def adapt(self, data: ImageDataModule, stage: str = "fit") -> list[str]:
        """Let each teacher accept the data."""
        done = {name: teacher.adapt(data, stage) for name, teacher in self.members.items()}
        return [f"{name} {change}" for name, changes in done.items() for change in changes]

    def targets(self, losses: Mapping[str, Loss]) -> TeacherTargets:
        """Return what gives each loss the targets of the average, or of the teacher that it names.

        Raises:
            UserError: A loss on layers names no teacher, or a loss that is named is not there.
        """
        for name in self.by_loss:
            if name not in losses:
                raise UserError(f"--model.teacher.by_loss.{name} is for no loss; name one of {', '.join(losses)}.")
        for name, loss in losses.items():
            if loss.teacher_layers and name not in self.by_loss:
                raise UserError(
                    f"the loss '{name}' reads layers, but there are several teachers, of which only logits can be "
                    f"averaged; name its teacher, as by --model.teacher.by_loss.{name} {next(iter(self.members))}."
                )
        extractors = {}
        for name, teacher in self.members.items():
            taught = {of: loss for of, loss in losses.items() if self.by_loss.get(of) == name}
            extractors[name] = teacher.extractor(taught)
        return TeacherTargets(Extractors(extractors, self.by_loss, self.averaged), losses)

    def identity(self, data: ImageDataModule) -> tuple[object, ...]:
        """Return all that the average and the teachers depend on."""
        parts = ((name, *teacher.identity(data)) for name, teacher in self.members.items())
        return (self.average, self.shares, *chain(*parts))

    def files(self) -> dict[str, tuple[str | None, str]]:
        """Return the file and the digest of each teacher."""
        option = "--model.teacher.members.{}.weights"
        return {option.format(name): (teacher.weights, teacher.digest) for name, teacher in self.members.items()}

    def averaged(self, logits: Sequence[Tensor]) -> Tensor:
        """Return the average of the teachers' logits, (B, num_classes) each, in float32 at least."""
        shares = [share / sum(self.shares) for share in self.shares]
        if self.average == "logits":
            return torch.stack([share * to_float32(own) for share, own in zip(shares, logits, strict=True)]).sum(0)
        parts = [log_probabilities(own) for own in logits]
        weights = parts[0].new_tensor(shares).log().view(-1, 1, 1)  # (K, 1, 1)
        return (torch.stack(parts) + weights).logsumexp(0)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Return the average logits, (B, num_classes), for the student's normalized images (B, C, H, W)."""
        return self.averaged([teacher(images) for teacher in self.members.values()])
