"""What a file must say about a network besides its weights, so that prediction needs nothing else."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self


def unnamed(count: int) -> tuple[str, ...]:
    """Return stand-ins for the names of classes that a file does not name."""
    return tuple(f"class {i}" for i in range(count))


@dataclass(frozen=True)
class ModelInfo:
    """Everything that prediction needs to know about a trained network.

    Attributes:
        network: Import path of the network's class, such as ``kd_lightning.networks.seed.LightNN``.
        arguments: The network's constructor arguments, plain values.
        class_names: Names of the classes, in the order of the logits.
        mean: Per-channel mean of pixels in [0, 1] that normalization subtracts; one value a channel.
        std: Per-channel standard deviation that normalization divides by; one value a channel.
        image_size: Height and width in pixels to which an image is resized.
        data: Name of the data the network was trained on, for people.
        accuracy: Test accuracy in [0, 1], or ``None`` where it was not measured.
    """

    network: str
    arguments: dict[str, bool | int | float | str]
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int
    data: str = ""
    accuracy: float | None = field(default=None)

    @property
    def in_channels(self) -> int:
        """Channels of an image: 1 (grey) or 3 (colour)."""
        return len(self.mean)

    def to_plain(self) -> dict[str, Any]:
        """Return a dict of plain values that ``torch.load(weights_only=True)`` and JSON accept."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Self:
        """Build it from what ``to_plain`` gave; raise ``KeyError``, ``TypeError`` or ``ValueError`` for others."""
        return cls(
            network=str(values["network"]),
            arguments=dict(values["arguments"]),
            class_names=tuple(str(name) for name in values["class_names"]),
            mean=tuple(float(value) for value in values["mean"]),
            std=tuple(float(value) for value in values["std"]),
            image_size=int(values["image_size"]),
            data=str(values["data"]),
            accuracy=None if values["accuracy"] is None else float(values["accuracy"]),
        )

    def to_metadata(self) -> dict[str, str]:
        """Return the ONNX metadata: one key an attribute, each value as JSON."""
        return {name: json.dumps(value) for name, value in self.to_plain().items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Self:
        """Build it from ONNX metadata; raise ``KeyError``, ``TypeError`` or ``ValueError`` where it is not ours."""
        names = ("network", "arguments", "class_names", "mean", "std", "image_size", "data", "accuracy")
        return cls.from_plain({name: json.loads(metadata[name]) for name in names})
