"""``data``: describe a data source, with a sheet of its images."""

from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

import torch

from kd_lightning.data import ImageDataModule
from kd_lightning.data.contact_sheet import training_sheet, with_unlabelled_class
from kd_lightning.data.loader import LabelledImages
from kd_lightning.data.source import Split
from kd_lightning.files import atomic_write
from kd_lightning.machine.terminal import print_fitted
from kd_lightning.training.data_options import data_parser, parse
from kd_lightning.wording import shown


def main(args: Sequence[str]) -> int:
    """Print the description and write a contact sheet."""
    parser = data_parser("data", "Describe a data source, and write a sheet of example images.")
    parser.add_argument("--output", type=str, default="data.png", help="The PNG to write the sheet to.")
    config = parse(parser, args)
    data: ImageDataModule = config.data
    print_fitted("\n".join(describe(data)))
    sheet = Path(config.output)
    with atomic_write(sheet) as path:
        training_sheet(data).save(path, format="PNG")
    print_fitted(f"sheet: {shown(sheet)}")
    return 0


def describe(data: ImageDataModule) -> list[str]:
    """Return the description of a data source, line by line."""
    parts: dict[Split, tuple[LabelledImages, torch.Tensor]] = {"train": data.train_rows(), "test": data.test_rows()}
    if data.has_val:
        parts["val"] = data.val_rows()
    sets = {id(images): images.images.nbytes for images, _ in parts.values()}
    wide = data.pixel_range
    mean, std = (", ".join(f"{value:.4f}" for value in values) for values in astuple(data.normalization))
    return [
        f"{data.name}: {data.num_classes} classes of {data.image_size}x{data.image_size} images, "
        f"{data.in_channels} channel(s)",
        f"memory: {sum(sets.values()) / 1e6:.1f} MB",
        *(["values of more than 8 bits: {:g} to {:g} become 0 to 255".format(*wide)] if wide is not None else []),
        f"normalization: mean {mean}; std {std}",
        f"augmentation: {', '.join(type(step).__name__ for step in data.augment) or 'none'}",
        f"broken files left out: {len(data.broken)}",
        *(f"  {shown(error.path)}: {shown(error.reason)}" for error in data.broken),
        "",
        *_counts(parts, data.class_names),
        "",
    ]


def _counts(parts: dict[Split, tuple[LabelledImages, torch.Tensor]], class_names: Sequence[str]) -> list[str]:
    """Return a table of the number of images of each class in each split."""
    names, _ = with_unlabelled_class(class_names, parts["train"][0].labels)
    labels = [with_unlabelled_class(class_names, images.labels)[1][rows] for images, rows in parts.values()]
    columns = [torch.bincount(part, minlength=len(names)) for part in labels]
    table = [[int(column[index]) for column in columns] for index in range(len(names))]
    totals = [int(column.sum()) for column in columns]
    named = zip([*names, "all"], [*table, totals], strict=True)
    head = f"{'class':<24}" + "".join(f"{name:>10}" for name in parts)
    return [head, *(f"{shown(name):<24}" + "".join(f"{count:>10,}" for count in row) for name, row in named)]
