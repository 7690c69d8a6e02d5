"""The teacher: a frozen network."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain

import torch
from torch import Tensor
from torch.nn import functional

from kd_lightning.data.base import ImageDataModule
from kd_lightning.data.compatibility import check_channels_and_classes, same_normalization
from kd_lightning.data.normalize import Normalization
from kd_lightning.digest import digest
from kd_lightning.errors import UserError, require_object
from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.losses.base import Loss, to_float32
from kd_lightning.losses.pairs import feature_extractor
from kd_lightning.networks import Network
from kd_lightning.networks.layers import FeatureExtractor
from kd_lightning.networks.weights import load_weights, read_weights
from kd_lightning.teacher.base import AnyTeacher
from kd_lightning.teacher.extractors import AVERAGE, Extractors
from kd_lightning.teacher.targets import TeacherTargets


class Teacher(AnyTeacher):
    """A trained network that students learn from: always frozen and in evaluation mode.

    Args:
        network: The teacher's network.
        weights: File with its weights (``.pth``, ``.safetensors`` or ``.ckpt``), or the address of one with its
            SHA-256, ``https://HOST/FILE#sha256=CHECKSUM``. Without it, ``fit`` takes those of the newest run that was
            trained with ``config`` as it is now, and the Python API takes the network as it is.
        config: Config with which ``fit`` trains the teacher first where there is no such run. It takes the data, the
            random seed and the changed trainer options of the student's run. It may have a teacher of its own.
        normalization: Mean and std of each channel with which a bare state dict's training images were normalized;
            ImageNet's by default. Other files contain it.

    Raises:
        UserError: The weights cannot be read; or a normalization is given without weights, or for a file that has one.

    Attributes:
        info: The model information in the weights' file; ``None`` where there is no file.
        digest: Digest of the weights.
    """

    def __init__(
        self,
        network: Network,
        weights: str | None = None,
        config: str = "teacher.yaml",
        normalization: Normalization | None = None,
    ) -> None:
        super().__init__()
        require_object("network", network, Network, 'Teacher(DeepNN(), weights="teacher.pth")')
        weights = None if weights is None else str(weights)  # checkpoints hold no paths
        info = None if weights is None else read_weights(weights)[1]
        if info is not None and info.image_size != network.image_size:
            network = network.rebuilt(image_size=info.image_size)
        self.network = network
        self.weights = weights
        self.config = config
        self.info = None if weights is None else load_weights(network, weights)
        self._is_bare = info is None
        if normalization is not None:
            if self.info is None or not self._is_bare:
                found = "there are no weights" if weights is None else f"{weights} contains its own normalization"
                raise UserError(f"--model.teacher.normalization is for a bare state dict, but {found}; leave it out.")
            self.info = replace(self.info, mean=normalization.mean, std=normalization.std)
        self.digest = digest(*chain(*sorted(network.state_dict().items())))
        self._size: int | None = None
        self._scale: tuple[Tensor, Tensor] | None = None
        self._order: Tensor | None = None
        self.requires_grad_(False)
        self.train(False)

    def named_networks(self) -> dict[str, Network]:
        """Return the network, without a name."""
        return {AVERAGE: self.network}

    def network_of(self, loss: str) -> tuple[Network, Tensor | None]:
        """Return the network, and the places of the data's classes in its outputs, ``None`` where they are the same."""
        return self.network, self._order

    def extractor(self, losses: Mapping[str, Loss]) -> FeatureExtractor:
        """Extract the layers that losses read."""
        self.network.to_channels_last()
        return feature_extractor(self, self.network, losses, lambda loss: loss.teacher_layers)

    def targets(self, losses: Mapping[str, Loss]) -> TeacherTargets:
        """Return what gives losses their targets, computed by the network."""
        return TeacherTargets(Extractors({AVERAGE: self.extractor(losses)}), losses)

    def identity(self, data: ImageDataModule) -> tuple[object, ...]:
        """Return the network, its weights, and what ``adapt`` depends on."""
        network, info = self.network, self.info
        seen = () if info is None else (info.mean, info.std, info.class_names, data.class_names)
        return (network.class_path, network.arguments, *seen, *chain(*network.state_dict().items()))

    def adapt(self, data: ImageDataModule, stage: str = "fit") -> list[str]:
        """Accept images as a student's data serves them, and return logits in the order of its classes.

        Where the teacher's file has another normalization or image size than the data, images are normalized again and
        resized; where it has the same classes in another order, its logits are reordered. A network without a file
        counts as trained on images of its size, in the normalization of its library's weights.

        Returns:
            The changes, a clause each.

        Raises:
            UserError: The classes or the channels differ.
        """
        self._size = self._scale = self._order = None
        if self.info is None or self.weights is None:
            return self._adapt_without_file(data)
        check_channels_and_classes(f"the teacher {self.weights}", self.info, data)
        done, here = [], data.normalization
        if not same_normalization(self.info, data):
            self._scale = _rescaling((here.mean, here.std), (self.info.mean, self.info.std))
            done.append(_assumed(self.info) if self._is_bare else "normalizes images as its file says")
        if self.info.image_size != data.image_size:
            self._size = self.info.image_size
            done.append(f"sees images of {self._size} pixels")
        if sorted(self.info.class_names) == sorted(data.class_names) and self.info.class_names != data.class_names:
            self._order = torch.tensor([self.info.class_names.index(name) for name in data.class_names])
            done.append("has its classes put in the data's order")
        return done

    def _adapt_without_file(self, data: ImageDataModule) -> list[str]:
        done, own, here = [], self.network.normalization, data.normalization
        if own is not None and own != here:
            self._scale = _rescaling((here.mean, here.std), (own.mean, own.std))
            done.append("normalizes images as those were that its weights were trained on")
        if self.network.image_size != data.image_size:
            self._size = self.network.image_size
            done.append(f"sees images of {self._size} pixels")
        return done

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Return the teacher's logits, (B, num_classes), for the student's normalized images (B, C, H, W)."""
        if self._scale is not None:
            factor, offset = (part.to(images) for part in self._scale)
            images = torch.addcmul(offset, images, factor)
        if self._size is not None:
            large = functional.interpolate(to_float32(images), size=self._size, mode="bilinear", antialias=True)
            images = large.to(images.dtype)  # a CPU cannot interpolate in half precision
        logits: Tensor = self.network(images)
        return logits if self._order is None else logits.index_select(1, self._order.to(logits.device))


def _assumed(info: ModelInfo) -> str:
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (info.mean, info.std))
    return (
        f"normalizes images by mean {mean} and std {std}, which its bare state dict does not say "
        "(--model.teacher.normalization does)"
    )


def _rescaling(
    here: tuple[Sequence[float], Sequence[float]], there: tuple[Sequence[float], Sequence[float]]
) -> tuple[Tensor, Tensor]:
    """Return factor and offset, (1, C, 1, 1) each, that turn images normalized one way into the other."""
    (mean, std), (own_mean, own_std) = (tuple(map(torch.tensor, pair)) for pair in (here, there))
    factor, offset = std.double() / own_std, (mean.double() - own_mean) / own_std
    return factor.float().view(1, -1, 1, 1), offset.float().view(1, -1, 1, 1)
