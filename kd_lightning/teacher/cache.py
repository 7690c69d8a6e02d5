"""A frozen teacher's targets, computed once where the views of an image can be counted (cached)."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from time import monotonic
from typing import NamedTuple

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from kd_lightning.data.base import ImageDataModule
from kd_lightning.errors import UserError
from kd_lightning.machine.progress import with_progress
from kd_lightning.teacher.cached_rows import CachedRows
from kd_lightning.teacher.table import ROWS_AT_ONCE, Storage, TableFile, choose_storage, digest
from kd_lightning.teacher.targets import Tables, TeacherTargets

KEPT_FROM = 10.0
"""Seconds from which computing tables is worth keeping them for later runs."""

Files = dict[tuple[str, str], TableFile]


class CacheRequest(NamedTuple):
    """All that a remembered teacher's targets depend on.

    Attributes:
        targets: Asks the teacher, and looks the targets up once they are remembered.
        data: Serves the images; ``check_views`` has let it pass.
        identity: What the targets depend on besides images, views and normalization: names and tensors.
        device: Where training runs.
        convert: What the trainer's precision does to images.
    """

    targets: TeacherTargets
    data: ImageDataModule
    identity: tuple[object, ...]
    device: torch.device
    convert: Callable[[Tensor], Tensor] = lambda images: images


class TeacherCache(NamedTuple):
    """What is remembered of a teacher.

    Attributes:
        rows: Of the tables: one an image and view.
        size: Bytes of all tables.
        place: Where they lie.
    """

    rows: int
    size: int
    place: Storage


class NotCacheableError(Exception):
    """The teacher has to run in every step; the message says why, as the end of a sentence."""


def check_views(data: ImageDataModule) -> None:
    """Raise ``NotCacheableError`` if the views of an image cannot be counted."""
    if data.seen_views.reason is not None:
        raise NotCacheableError(data.seen_views.reason)
    if type(data).on_after_batch_transfer is not ImageDataModule.on_after_batch_transfer:
        raise NotCacheableError(f"{type(data).__name__} changes batches in an on_after_batch_transfer of its own")


@torch.no_grad()
def remember(asked: CacheRequest, processes: int = 1, say: Callable[[str], None] = print) -> TeacherCache:
    """Compute the teacher's targets in one pass, or take those of an earlier run with the same teacher and images.

    Args:
        asked: What they depend on.
        processes: Processes that train on this machine; each remembers for itself.
        say: Prints a line.

    Returns:
        What is remembered, and where.

    Raises:
        NotCacheableError: There is no room for the targets.
    """
    device = asked.device
    blocks, first, files = _planned(asked)
    size = sum(len(blocks) * rows[0].numel() * rows.dtype.itemsize for rows in first.values())
    place = choose_storage(size, device, processes)
    if place is None:
        raise NotCacheableError(f"its targets take {size / 1e9:.1f} GB, more than memory and disk have to spare")
    known = {}
    for key, file in files.items():
        table = file.read()
        if table is not None and _agree(table[blocks.compared].to(device), first[key]):
            known[key] = table
    missing = {key: file for key, file in files.items() if key not in known}
    since = "it runs once and not in every step" if missing else "since an earlier run"
    say(f"Teacher: remembered (cached) for {blocks.described}, {size / 1e6:,.1f} MB {place.value}; {since}.")
    tables = {**known, **(_computed(_shown(blocks, say), missing, place, device) if missing else {})}
    home = device if place is Storage.DEVICE else torch.device("cpu")
    if place is not Storage.DISK:  # those of earlier runs lie over a memory map
        tables = {key: table.to(home, copy=key in known) for key, table in tables.items()}
    asked.targets.remember(tables, blocks.images)
    return TeacherCache(len(blocks), size, place)


@torch.no_grad()
def is_cached(asked: CacheRequest) -> bool:
    """Say whether an earlier run has kept all that ``remember`` would compute."""
    return all(file.path.is_file() for file in _planned(asked)[2].values())


def _planned(asked: CacheRequest) -> tuple[CachedRows, Tables, Files]:
    """Return what the teacher is asked about, what it says of the first of it, and the file of each table."""
    targets, data, identity, device, convert = asked

    def ask(images: Tensor) -> Tables:
        found = targets.distinct(convert(data.normalization.apply(images)))
        return {place: _as_rows(target) for place, target in found.items()}

    blocks = CachedRows(data, ask, device)
    first = blocks.first()
    shapes = {key: (len(blocks), *rows.shape[1:]) for key, rows in first.items()}
    return blocks, first, _files(data, identity, shapes, first)


def _as_rows(target: Tensor) -> Tensor:
    return target.permute(0, 2, 3, 1) if target.ndim == 4 else target


def _files(
    data: ImageDataModule,
    identity: tuple[object, ...],
    shapes: Mapping[tuple[str, str], tuple[int, ...]],
    first: Tables,
) -> Files:
    """Return the file of each table; its key holds all that the values depend on."""
    views = data.seen_views
    drawn = (views.count, *views.pipeline.steps) if not views.pipeline.flips_only else (views.count,)
    seen = () if views.pipeline.flips_only else (data.train_rows()[1], *([data.val_rows()[1]] if data.has_val else []))
    base = digest(*identity, data.normalization, *drawn, *seen, data.split("train").images)
    files, keys = Files(), Counter[object]()
    for place, shape in shapes.items():
        what = place[1], shape, first[place].dtype  # not the loss's name: other runs have their own
        again = [keys[what]] * bool(keys[what])  # another tensor of another loss that calls it so, too
        keys[what] += 1
        files[place] = TableFile(digest(base, *what, *again), shape, first[place].dtype)
    return files


def _agree(kept: Tensor, now: Tensor) -> bool:
    """Say whether a kept table is that of the teacher as its code is now, but for rounding."""
    return bool((kept.float() - now.float()).norm() <= 1e-3 * now.float().norm())


def _shown(blocks: CachedRows, say: Callable[[str], None]) -> Iterator[Tables]:
    """Give all rows, some at a time; where that takes long, say beforehand how long, and show how far it is."""
    started = monotonic()
    for number, part in enumerate(with_progress(blocks, "Asking the teacher", len(blocks), _rows_in)):
        seconds = (monotonic() - started) * (len(blocks) / _rows_in(part) - 1) if number == 0 else 0.0
        if seconds > KEPT_FROM:
            say(f"Teacher: it is asked {len(blocks):,} times, which takes about {_about(seconds)}.")
        yield part


def _rows_in(part: Tables) -> int:
    return len(next(iter(part.values())))


def _about(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _computed(blocks: Iterable[Tables], files: Files, place: Storage, device: torch.device) -> Tables:
    """Let the teacher run; keep what took long for later runs, and what memory has no room for."""
    if place is Storage.DISK:
        return _written(blocks, files)
    home = device if place is Storage.DEVICE else torch.device("cpu")
    tables = {key: torch.empty(file.shape, dtype=file.dtype, device=home) for key, file in files.items()}
    started, end = monotonic(), 0
    for part in blocks:
        count = _rows_in(part)
        for key, table in tables.items():
            table[end : end + count] = part[key]
        end += count
    if monotonic() - started > KEPT_FROM:
        try:
            for key, file in files.items():
                file.write(tables[key].split(ROWS_AT_ONCE))
        except UserError as error:
            rank_zero_warn(f"the teacher's targets are not kept for later runs: {error}")
    return tables


def _written(blocks: Iterable[Tables], files: Files) -> Tables:
    """Write tables part by part, and return them over memory maps."""
    try:
        with ExitStack() as stack:
            writers = {key: stack.enter_context(file.writer()) for key, file in files.items()}
            for part in blocks:
                for key, write in writers.items():
                    write(part[key])
    except UserError as error:
        raise NotCacheableError(f"its targets are too many for memory and the disk is no help: {error}") from error
    tables = {}
    for key, file in files.items():
        table = file.read()
        if table is None:
            raise NotCacheableError("another run with another teacher or other images takes its place in the cache")
        tables[key] = table
    return tables
