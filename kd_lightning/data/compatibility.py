"""Check that the data fit a network: its arguments, or the metadata of its file, are compared with the data."""

from itertools import zip_longest
from math import isclose
from pathlib import Path
from typing import TYPE_CHECKING

from kd_lightning.data.base import ImageDataModule
from kd_lightning.data.normalize import IMAGENET
from kd_lightning.errors import UserError
from kd_lightning.inference.model_info import ModelInfo, unnamed

if TYPE_CHECKING:
    from kd_lightning.networks import Network

Values = tuple[float, ...]

FIX = "give the data that it was trained on, or another file"


def check_network(network: "Network", data: ImageDataModule) -> None:
    """Refuse data with other classes, channels or sizes than a network was built for.

    Raises:
        UserError: They differ.
    """
    for name in ("num_classes", "in_channels", "image_size"):
        built, found = getattr(network, name), getattr(data, name)
        if built != found:
            raise UserError(f"{name} of the network is {built}, of the data {found}; build it with {name}={found}.")


def check_data(file: str | Path, info: ModelInfo, data: ImageDataModule) -> None:
    """Refuse data with other images, classes or another normalization than a network was trained on.

    Args:
        file: The network's file, for the message.
        info: The file's metadata.
        data: The data; ``normalize: auto`` reads its training images.

    Raises:
        UserError: They differ; it names the difference and the option that fixes it.
    """
    check_images(file, info, data)
    if not same_normalization(info, data):
        found = data.normalization
        raise _refusal(
            file,
            info,
            f"pixels normalized by {_values(info.mean, info.std)}",
            f"is normalized by {_values(found.mean, found.std)}",
            f"add --data.normalize {_option(info.mean, info.std)}, or give another file",
        )


def check_images(file: str | Path, info: ModelInfo, data: ImageDataModule) -> None:
    """Refuse data with other images or classes; their normalization is ignored where the file's own is applied.

    Raises:
        UserError: They differ.
    """
    _check_numbers(file, info, data)
    if info.image_size != data.image_size:
        raise _refusal(file, info, f"images of {info.image_size} pixels", f"has {data.image_size}", FIX)
    theirs, ours = info.class_names, data.class_names
    if theirs not in (ours, unnamed(len(ours))):
        label, one, other = next((i, *pair) for i, pair in enumerate(zip_longest(theirs, ours)) if pair[0] != pair[1])
        order = "the same classes in another order, " if sorted(theirs) == sorted(ours) else ""
        raise _refusal(file, info, f"a class {label} that is called {one!r}", f"has {order}{other!r} there", FIX)


def check_channels_and_classes(file: str | Path, info: ModelInfo, data: ImageDataModule) -> None:
    """Refuse data with other channels or classes than a network was trained on; the order of the classes may differ.

    Raises:
        UserError: They differ.
    """
    _check_numbers(file, info, data)
    theirs, ours = info.class_names, data.class_names
    others = sorted(set(theirs) - set(ours))
    if others and theirs != unnamed(len(ours)):
        raise _refusal(file, info, f"a class that is called {others[0]!r}", "has none of that name", FIX)


def _check_numbers(file: str | Path, info: ModelInfo, data: ImageDataModule) -> None:
    if info.in_channels != data.in_channels:
        raise _refusal(file, info, f"images of {info.in_channels} channel(s)", f"has {data.in_channels}", FIX)
    if len(info.class_names) != data.num_classes:
        raise _refusal(file, info, f"{len(info.class_names)} classes", f"has {data.num_classes}", FIX)
    found = None if info.pixel_range is None else data.pixel_range
    if info.pixel_range is not None and found is not None and found != info.pixel_range:
        theirs, ours = (", ".join(f"{value:.9g}" for value in values) for values in (info.pixel_range, found))
        fix = f"add --data.pixel_range '[{theirs}]', or give another file"
        raise _refusal(file, info, f"pixels of the range [{theirs}]", f"has those of [{ours}]", fix)


def _refusal(file: str | Path, info: ModelInfo, theirs: str, ours: str, fix: str) -> UserError:
    source = info.data or "assumed, because a bare state dict does not record its data"
    return UserError(f"{file} was trained on {theirs} ({source}), but the data {ours}; {fix}.")


def same_normalization(info: ModelInfo, data: ImageDataModule) -> bool:
    """Return whether a network was trained on pixels normalized as the data's are, up to float32 rounding."""
    pairs = zip((*info.mean, *info.std), (*data.normalization.mean, *data.normalization.std), strict=True)
    return all(isclose(one, other, rel_tol=1e-6, abs_tol=1e-7) for one, other in pairs)


def _values(mean: Values, std: Values) -> str:
    return " and ".join(
        f"{name} {', '.join(f'{value:.6g}' for value in values)}" for name, values in (("mean", mean), ("std", std))
    )


def _option(mean: Values, std: Values) -> str:
    """Return the value of ``--data.normalize`` for a normalization, quoted for a shell."""
    return "imagenet" if (mean, std) == IMAGENET else f"'{{mean: {list(mean)}, std: {list(std)}}}'"
