"""``stats``: the exact mean and standard deviation of a data source's channels."""

from collections.abc import Sequence

import yaml

from kd_lightning.data import ImageDataModule
from kd_lightning.data.normalize import Normalization, channel_statistics
from kd_lightning.training.data_options import data_parser, parse

DIGITS = 6


def main(args: Sequence[str]) -> int:
    """Print the statistics of the training images, as text and as YAML ready to paste into a config."""
    parser = data_parser("stats", "Print the mean and standard deviation of each channel of the training images.")
    data: ImageDataModule = parse(parser, args).data
    images = data.split("train").images
    statistics = channel_statistics(images)
    print(f"{data.name}: {len(images):,} training images of {data.image_size}x{data.image_size} pixels")
    print(f"  mean  {_row(statistics.mean)}\n  std   {_row(statistics.std)}\n")
    print(as_yaml(statistics), end="")
    return 0


def as_yaml(statistics: Normalization) -> str:
    """Return the part of a config that normalizes with these statistics."""
    values = {name: [round(value, DIGITS) for value in getattr(statistics, name)] for name in ("mean", "std")}
    return yaml.safe_dump({"data": {"init_args": {"normalize": values}}}, sort_keys=False, default_flow_style=None)


def _row(values: Sequence[float]) -> str:
    return "  ".join(f"{value:.{DIGITS}f}" for value in values)
