"""What a student learns from: one network, several, or a file of outputs."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Self

from torch import Tensor, nn

from kd_lightning.data.base import ImageDataModule
from kd_lightning.errors import UserError
from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.losses.base import Loss
from kd_lightning.networks import Network
from kd_lightning.teacher.targets import TeacherTargets


class AnyTeacher(nn.Module, ABC):
    """What a student learns from: always frozen and in evaluation mode.

    Attributes:
        weights: The file or files that it was read from; ``None`` where there is none.
        digest: Digest of all that its outputs depend on.
        info: The model information in the weights' file; ``None`` where there is no file, or several.
    """

    weights: str | None
    digest: str
    info: ModelInfo | None = None

    @abstractmethod
    def named_networks(self) -> dict[str, Network]:
        """Return the networks that run for it, by the names of several; none where its outputs come from a file."""

    @property
    def networks(self) -> tuple[Network, ...]:
        """The networks that run for it."""
        return tuple(self.named_networks().values())

    @property
    def title(self) -> str:
        """What it is, in messages: the names of its networks."""
        return " and ".join(type(network).__name__ for network in self.networks)

    @abstractmethod
    def adapt(self, data: ImageDataModule, stage: str = "fit") -> list[str]:
        """Accept images as a student's data serves them; return what that changes, a clause each.

        Args:
            data: The data.
            stage: ``fit``, ``validate`` or ``test``.

        Raises:
            UserError: The classes, the channels or the images do not match.
        """

    @abstractmethod
    def targets(self, losses: Mapping[str, Loss]) -> TeacherTargets:
        """Return what gives losses their targets.

        Args:
            losses: The losses by name.

        Raises:
            UserError: It does not have what a loss learns from.
        """

    @abstractmethod
    def identity(self, data: ImageDataModule) -> tuple[object, ...]:
        """Return names and tensors that its outputs depend on, besides images, views and the data's normalization."""

    def network_of(self, loss: str) -> tuple[Network, Tensor | None]:
        """Return the network whose layers a loss reads, and the places of the data's classes in its outputs.

        Args:
            loss: The loss's name.

        Raises:
            UserError: It has no network.
        """
        raise UserError(f"the loss '{loss}' reads layers of the teacher, but {self.title} has none.")

    def files(self) -> dict[str, tuple[str | None, str]]:
        """Return the file and the digest of each of its parts, by the option that names the file."""
        return {"--model.teacher.weights": (self.weights, self.digest)}

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever ``mode`` is."""
        return super().train(False)
