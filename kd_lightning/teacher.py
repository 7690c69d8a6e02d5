"""The teacher: a network that is frozen for good."""

from itertools import chain
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn

from kd_lightning.networks import Network
from kd_lightning.remembered_store import digest
from kd_lightning.weights import load_weights


class TeacherOutput(NamedTuple):
    """What an objective can learn from.

    Attributes:
        logits: (B, num_classes).
        feature_map: (B, C, H, W).
    """

    logits: Tensor
    feature_map: Tensor


class TeacherAnswer(NamedTuple):
    """What a distillation gets to know of a batch.

    Attributes:
        target: What its objective compares the student with, (B, ...).
        logits: (B, num_classes); ``None`` where the target was remembered and the teacher did not run.
    """

    target: Tensor
    logits: Tensor | None = None


class Teacher(nn.Module):
    """A trained network that students learn from: frozen and in evaluation mode for good.

    Args:
        network: The teacher's network.
        weights: File with its weights (``.pth`` or ``.ckpt``). Where it is not given, ``fit`` takes the newest weights
            of the runs of ``config``, and the Python API takes the network as it is.
        config: Config with which ``fit`` trains the teacher first where there are no weights yet.

    Attributes:
        info: What the weights' file says; ``None`` where there is no file.
        digest: Of the weights.
    """

    works_with_fast_path = True

    def __init__(self, network: Network, weights: str | None = None, config: str = "teacher.yaml") -> None:
        super().__init__()
        self.network = network
        self.weights = weights
        self.config = config
        self.info = None if weights is None else load_weights(network, weights)
        self.digest = digest(*chain(*sorted(network.state_dict().items())))
        self.requires_grad_(False)
        self.train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> TeacherOutput:
        """Return the teacher's outputs for normalized images (B, C, H, W)."""
        feature_map = self.network.feature_map(images)
        return TeacherOutput(self.network.classify(feature_map), feature_map)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever is asked for."""
        return super().train(False)
