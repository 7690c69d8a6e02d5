"""Seeded, stratified splits of rows, and checks for missing classes and repeated images."""

from collections.abc import Sequence
from hashlib import blake2b

import torch
from torch import Tensor

from kd_lightning.errors import UserError
from kd_lightning.inference.images import Pixels
from kd_lightning.wording import shown

NAMED_CLASSES = 5  # more are not named


def stratified_split(labels: Tensor, size: float, seed: int) -> tuple[Tensor, Tensor]:
    """Split rows in two so that both parts hold the classes in the same proportion.

    Each class gives its own share, rounded so that the roundings of all classes even out, and keeps at least one image
    in the first part.

    Args:
        labels: Class indices, ``(N,)``.
        size: Size of the second part: a share of each class in [0, 1), or a number of images, 1 or more.
        seed: The same seed gives the same split.

    Returns:
        Row numbers of the first and of the second part, each in ascending order; each row is in exactly one.

    Raises:
        UserError: The second part would take all images of a class.
    """
    if not len(labels):
        return labels, labels
    share = size if size < 1 else size / len(labels)
    if share >= 1:
        raise UserError(f"a split of {size:g} images was requested, but there are only {len(labels)}; request fewer.")
    generator = torch.Generator().manual_seed(seed)
    first, second = [], []
    seen = 0
    counts = labels.unique(return_counts=True)[1].tolist()
    for rows in labels.argsort(stable=True).split(counts):  # of each class, ascending
        wanted = round((seen + len(rows)) * share) - round(seen * share)
        seen += len(rows)
        count = min(wanted, len(rows) - 1)  # no other class makes up for a class of one image
        shuffled = rows[torch.randperm(len(rows), generator=generator)]
        first.append(shuffled[count:])
        second.append(shuffled[:count])
    return torch.cat(first).sort().values, torch.cat(second).sort().values


def lacking(kind: str, labels: Tensor, class_names: Sequence[str]) -> str | None:
    """Return a sentence on the classes that a split has no image of; none where it has all.

    Args:
        kind: ``test`` or ``validation``.
        labels: Its class indices, ``(N,)``.
        class_names: Names of all classes.
    """
    counts = torch.bincount(labels, minlength=len(class_names)).tolist()
    missing = [shown(name) for name, count in zip(class_names, counts, strict=True) if not count]
    if not missing:
        return None
    more = f" and {len(missing) - NAMED_CLASSES:,} more" if len(missing) > NAMED_CLASSES else ""
    return (
        f"the {kind} images lack {len(missing):,} of {len(class_names):,} classes "
        f"({', '.join(missing[:NAMED_CLASSES])}{more}): {kind} accuracy does not cover these."
    )


def repeated(train: Pixels, others: Pixels) -> list[tuple[int, int]]:
    """Find images that equal a training image pixel for pixel.

    Their middle rows are compared first, so that little of a large set is read.

    Args:
        train: The training images, ``(N, S, S, C)``.
        others: The others, ``(M, S, S, C)``.

    Returns:
        Pairs of positions: of a training image and of the other image that equals it.
    """
    middles, other_middles = ([hash(row.tobytes()) for row in part[:, part.shape[1] // 2]] for part in (train, others))
    both = set(middles) & set(other_middles)
    known = {_digest(train[row]): row for row in range(len(train)) if middles[row] in both}
    found = ((known.get(_digest(others[row])), row) for row in range(len(others)) if other_middles[row] in both)
    return [(first, row) for first, row in found if first is not None]


def _digest(pixels: Pixels) -> bytes:
    return blake2b(pixels.tobytes(), digest_size=16).digest()
