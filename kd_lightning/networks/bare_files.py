"""Bare state dicts: what is assumed of their networks and images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from kd_lightning.data.class_names import CIFAR10_CLASSES
from kd_lightning.data.normalize import IMAGENET
from kd_lightning.errors import UserError
from kd_lightning.inference.model_info import ModelInfo, unnamed
from kd_lightning.networks import DeepNN, LightNN


def recognize(state_dict: Mapping[str, Tensor], path: str | Path) -> ModelInfo:
    """Recognize DeepNN or LightNN by the shapes of a bare state dict, and return its assumed description.

    Raises:
        UserError: It is a state dict of neither.
    """
    kind, channels = (DeepNN, 32) if "features.7.weight" in state_dict else (LightNN, 16)
    try:
        in_channels = state_dict["features.0.weight"].shape[1]
        image_size = 4 * round((state_dict["classifier.0.weight"].shape[1] / channels) ** 0.5)
        num_classes = state_dict["classifier.3.weight"].shape[0]
    except (KeyError, IndexError) as error:
        raise UserError(
            f"{path} is a state dict of neither DeepNN nor LightNN; give the .pth that fit wrote."
        ) from error
    arguments: dict[str, bool | int | float | str] = {
        "num_classes": num_classes,
        "in_channels": in_channels,
        "image_size": image_size,
    }
    return assumed_info(f"{kind.__module__}.{kind.__qualname__}", arguments)


def assumed_info(network: str, arguments: Mapping[str, Any]) -> ModelInfo:
    """Return the assumed description of a bare state dict: CIFAR-10's classes, ImageNet's normalization.

    Args:
        network: Import path of its network's class.
        arguments: The network's constructor arguments.
    """
    num_classes, in_channels = arguments["num_classes"], arguments["in_channels"]
    is_cifar10 = (num_classes, in_channels) == (len(CIFAR10_CLASSES), 3)
    names = CIFAR10_CLASSES if is_cifar10 else unnamed(num_classes)
    mean, std = (values[:in_channels] for values in IMAGENET)
    return ModelInfo(network, dict(arguments), names, mean, std, arguments["image_size"])
