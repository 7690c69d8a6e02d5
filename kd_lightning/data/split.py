"""Seeded, stratified splits of rows."""

import torch
from torch import Tensor

from kd_lightning.errors import UserError


def stratified_split(labels: Tensor, size: float, seed: int) -> tuple[Tensor, Tensor]:
    """Split rows in two so that both parts hold the classes in the same proportion.

    Args:
        labels: Class indices, ``(N,)``.
        size: Size of the second part: a share of each class in [0, 1), or a number of images, 1 or more.
        seed: The same seed gives the same split.

    Returns:
        Row numbers of the first and of the second part, each in ascending order; each row is in exactly one.

    Raises:
        UserError: The second part would take all images of a class.
    """
    share = size if size < 1 else size / len(labels)
    if share >= 1:
        raise UserError(f"a split of {size:g} images was asked for, but there are only {len(labels)}; ask for fewer.")
    generator = torch.Generator().manual_seed(seed)
    first, second = [], []
    taken = seen = 0
    for label in labels.unique(sorted=True):
        rows = (labels == label).nonzero().flatten()
        seen += len(rows)
        count = min(round(seen * share) - taken, len(rows) - 1)  # the classes' roundings even out
        shuffled = rows[torch.randperm(len(rows), generator=generator)]
        first.append(shuffled[count:])
        second.append(shuffled[:count])
        taken += count
    return torch.cat(first).sort().values, torch.cat(second).sort().values
