"""The metadata of a network's file: all that prediction needs besides the weights."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

MAX_CLASSES, MAX_PIXELS, MAX_CHARACTERS = 100_000, 1024, 1000
"""Limits of a file's metadata: classes, pixels of an image's side, characters of a name."""

MAX_METADATA = 2**24
"""Characters of a value of a file's metadata."""


def unnamed(count: int) -> tuple[str, ...]:
    """Return placeholder names for classes that a file does not name."""
    return tuple(f"class {i}" for i in range(count))


@dataclass(frozen=True)
class ModelInfo:
    """Everything that prediction needs to know about a trained network.

    Attributes:
        network: Import path of the network's class, such as ``kd_lightning.networks.tutorial.LightNN``.
        arguments: The network's constructor arguments, plain values.
        class_names: Names of the classes, in the order of the logits.
        mean: Per-channel mean of pixels in [0, 1] that normalization subtracts; one value a channel.
        std: Per-channel standard deviation that normalization divides by; one value a channel.
        image_size: Height and width in pixels to which an image is resized.
        data: Display name of the data that the network was trained on.
        accuracy: Accuracy on all test images, in [0, 1], or ``None`` where it was not measured.
        epochs: Passes over the training images, a fraction where limits kept some out; ``None``: not known.
        limits: Options of the trainer that kept training from some images or epochs, such as ``limit_train_batches 2``.
        pixel_range: Values of black and white in files of more than 8 bits; ``None``: training had none of these.
    """

    network: str
    arguments: dict[str, bool | int | float | str]
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    image_size: int
    data: str = ""
    accuracy: float | None = None
    epochs: float | None = None
    limits: str = ""
    pixel_range: tuple[float, float] | None = None

    @property
    def in_channels(self) -> int:
        """Channels of an image: 1 (grey) or 3 (colour)."""
        return len(self.mean)

    def to_plain(self) -> dict[str, Any]:
        """Return a dict of plain values that ``torch.load(weights_only=True)`` and JSON accept."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Self:
        """Build it from the values of ``to_plain``, as read from an untrusted file.

        Raises:
            KeyError, TypeError, ValueError: Something is missing or of the wrong kind, out of range, or contradicts
                itself; a ``ValueError`` names it.
        """
        info = cls(
            network=_text("network", values["network"]),
            arguments={_text("an argument", name): value for name, value in dict(values["arguments"]).items()},
            class_names=tuple(_text("a class", name) for name in _items("classes", values["class_names"])),
            mean=_numbers("mean", values["mean"]),
            std=_numbers("std", values["std"]),
            image_size=values["image_size"],
            data=_text("data", values["data"]),
            accuracy=_number("accuracy", values["accuracy"]),
            epochs=_number("number of epochs", values.get("epochs")),
            limits=_text("its limits", values.get("limits", "")),
            pixel_range=_range(values.get("pixel_range")),
        )
        for mistake in info._mistakes():
            raise ValueError(mistake)
        return info

    def _mistakes(self) -> Iterable[str]:
        """Yield what is out of range or contradicts itself."""
        if not re.fullmatch(r"[\w.<>]+", self.network):
            yield "its network has no name of a class"
        if not 2 <= len(self.class_names) <= MAX_CLASSES:
            yield f"it names {len(self.class_names)} classes, not 2 to {MAX_CLASSES:,}"
        if len(self.mean) not in (1, 3) or len(self.mean) != len(self.std):
            yield f"it has {len(self.mean)} means and {len(self.std)} deviations, not 1 or 3 of each"
        if not all(abs(value) < 1e6 for value in self.mean) or not all(1e-6 < value < 1e6 for value in self.std):
            yield f"a mean {self.mean} and deviation {self.std} of pixels in [0, 1] cannot be"
        if type(self.image_size) is not int or not 1 <= self.image_size <= MAX_PIXELS:
            yield f"its image size is not 1 to {MAX_PIXELS:,} pixels"
        if self.accuracy is not None and not 0 <= self.accuracy <= 1:
            yield f"its accuracy is {self.accuracy}, not 0 to 1"
        if not all(map(_is_plain, self.arguments.values())):
            yield "its network has an argument that is not a plain value in a usual range"
        known = {"num_classes": len(self.class_names), "in_channels": self.in_channels, "image_size": self.image_size}
        for name in known.keys() & self.arguments.keys():
            if self.arguments[name] != known[name]:
                yield f"its network has {name}={self.arguments[name]}, but {known[name]} elsewhere"

    def to_metadata(self) -> dict[str, str]:
        """Return the metadata of ONNX and safetensors files: one key an attribute, each value as JSON."""
        return {name: json.dumps(value) for name, value in self.to_plain().items()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Self:
        """Build it from a file's metadata; raise ``KeyError``, ``TypeError`` or ``ValueError`` as ``from_plain``."""
        return cls.from_plain(read_metadata(metadata))


def read_metadata(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return the values that ``ModelInfo.from_plain`` takes, of an untrusted file's metadata.

    Raises:
        ValueError: A value is not JSON, or too long or too deep.
    """
    names = [item.name for item in fields(ModelInfo) if item.name in metadata]
    if any(len(metadata[name]) > MAX_METADATA for name in names):
        raise ValueError("its metadata are too long")
    try:
        return {name: json.loads(metadata[name]) for name in names}
    except RecursionError as error:
        raise ValueError("its metadata are nested too deeply") from error


def _text(what: str, value: Any) -> str:
    if not isinstance(value, str) or len(value) > MAX_CHARACTERS or re.search("[\ud800-\udfff]", value):
        raise ValueError(f"the name of {what} is not a text of at most {MAX_CHARACTERS:,} characters")
    return value


def _items(what: str, values: Any) -> list[Any] | tuple[Any, ...]:
    if not isinstance(values, list | tuple):
        raise TypeError(f"its {what} are not a list")
    return values


def _numbers(what: str, values: Any) -> tuple[float, ...]:
    if not all(type(value) in (int, float) and abs(value) < 1e300 for value in _items(what, values)):
        raise ValueError(f"its {what} is not a finite number")
    return tuple(map(float, values))


def _number(what: str, value: Any) -> float | None:
    return None if value is None else _numbers(what, [value])[0]


def _range(values: Any) -> tuple[float, float] | None:
    if values is None:
        return None
    low, high = _numbers("pixel range", values)
    if not -1e39 < low < high < 1e39:
        raise ValueError(f"its pixel range {low:g} to {high:g} cannot be")
    return low, high


def _is_plain(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= MAX_CHARACTERS and value.isprintable()
    return value is None or (isinstance(value, bool | int | float) and -(2**63) < value < 2**63)
