"""The one range by which a data set's images of more than 8 bits are scaled."""

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import isfinite
from typing import NamedTuple

from kd_lightning.errors import UserError
from kd_lightning.inference.images import NEEDS_RANGE, BrokenImageError, ImageFile, PixelRange, WideValues, wide_values
from kd_lightning.machine.cpu import cores
from kd_lightning.machine.progress import with_progress
from kd_lightning.wording import counted, shown

WHITES = (255.0, 1023.0, 4095.0, 16383.0, 65535.0)
"""The largest values of 8, 10, 12, 14 and 16 bits."""
FLOAT_WHITES = (1.0, 255.0, 65535.0)


class Found(NamedTuple):
    """The findings of decoding a list of files.

    Attributes:
        broken: Position and reason of the files that cannot be read.
        pixel_range: Values of black and white in files of more than 8 bits; ``None`` where there are none.
        note: A warning to print; empty without one.
    """

    broken: dict[int, str]
    pixel_range: PixelRange | None
    note: str = ""


def decode_by_range(
    names: Sequence[ImageFile],
    train: int,
    pixel_range: PixelRange | None,
    decode: Callable[[PixelRange | None], dict[int, str]],
) -> Found:
    """Decode once where all images have 8 bits or the range is given; else find the range and decode again.

    Args:
        names: The files, those of the training images first.
        train: Number of training images.
        pixel_range: The requested range; ``None`` finds it.
        decode: Decodes all files by a range, and returns position and reason of the broken ones.

    Raises:
        UserError: The training images have no range in common.
    """
    broken = decode(pixel_range)
    wide = [position for position, reason in broken.items() if reason == NEEDS_RANGE]
    read = dict(zip(wide, _read([names[position] for position in wide]), strict=True))
    values = {names[position]: found for position, found in read.items() if isinstance(found, WideValues)}
    training = {name: values[name] for name in names[:train] if name in values}
    if not training:
        reasons = {at: error.reason for at, error in read.items() if isinstance(error, BrokenImageError)}
        return Found(broken | reasons, pixel_range)
    black, white = common_range(training)
    low, high = _extremes(training.values())
    note = (
        f"{len(wide):,} of {counted(len(names), 'image')} have more than 8 bits a value: {black:g} to {white:g} become "
        f"0 to 255 (training images have {low:g} to {high:g}; --data.pixel_range sets another range)."
    )
    outside = [name for name, found in values.items() if found.low < black or found.high > white]
    if outside:
        note += f" Beyond it: {counted(len(outside), 'image')} outside the training set, such as {shown(outside[0])}."
    return Found(decode((black, white)), (black, white), note)


def check_range(pixel_range: PixelRange | None) -> None:
    """Raise ``UserError`` for an invalid range."""
    if pixel_range is not None and not (all(map(isfinite, pixel_range)) and pixel_range[0] < pixel_range[1]):
        raise UserError(
            f"pixel_range {list(pixel_range)} must be the value of black and a larger one of white, as in "
            "--data.pixel_range '[0, 4095]'."
        )


def usual_range(low: float, high: float, *, floats: bool) -> PixelRange:
    """Return the usual range of which values fill more than a quarter, or else their own minimum and maximum."""
    if low < 0 or high == 0:
        return low, max(high, low + 1)
    whites = FLOAT_WHITES if floats else WHITES
    return 0.0, next((white for white in whites if white / 4 < high <= white), high)


def common_range(training: Mapping[ImageFile, WideValues]) -> PixelRange:
    """Return the range of the training images.

    Raises:
        UserError: Integers and floating-point numbers have different ranges.
    """
    ranges: dict[PixelRange, ImageFile] = {}
    for floats in {found.floats for found in training.values()}:
        values = {name: found for name, found in training.items() if found.floats is floats}
        ranges.setdefault(usual_range(*_extremes(values.values()), floats=floats), next(iter(values)))
    if len(ranges) > 1:
        each = " and ".join(f"{black:g} to {white:g} ({shown(name)})" for (black, white), name in ranges.items())
        raise UserError(
            f"whole and floating-point numbers go from {each}; convert one kind, or give --data.pixel_range."
        )
    return next(iter(ranges))


def _extremes(values: Collection[WideValues]) -> tuple[float, float]:
    return min(found.low for found in values), max(found.high for found in values)


def _read(names: Sequence[ImageFile]) -> list[WideValues | BrokenImageError]:
    """Return the values of each file, or what is wrong with it."""
    with ThreadPoolExecutor(cores()) as pool:
        return list(with_progress(pool.map(_values, names), "Finding the pixel range", len(names), lambda _: 1))


def _values(name: ImageFile) -> WideValues | BrokenImageError:
    try:
        return wide_values(name)
    except BrokenImageError as error:
        return error
