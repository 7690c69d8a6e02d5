"""The cache of a frozen teacher's targets: computed once where the augmented views of an image can be counted."""

from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from time import monotonic
from typing import NamedTuple

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from kd_lightning.data.base import ImageDataModule
from kd_lightning.digest import ROWS_AT_ONCE, digest
from kd_lightning.errors import UserError
from kd_lightning.files import cache_folder, one_process_at_a_time
from kd_lightning.machine.processes import largest, process_count
from kd_lightning.machine.progress import with_progress
from kd_lightning.teacher.cached_rows import CachedRows, CacheRequest
from kd_lightning.teacher.table import Storage, TableFile, choose_storage
from kd_lightning.teacher.targets import Tables

__all__ = ["CacheRequest", "NotCacheableError", "TeacherCache", "cache_outputs", "check_views"]

KEPT_FROM = 10.0
"""Seconds of computation from which tables are saved for later runs."""

PATIENCE = 5.0
"""Seconds after which a run says that it waits for another."""

Files = dict[tuple[str, str], TableFile]


class TeacherCache(NamedTuple):
    """The size and the place of a teacher's cached targets.

    Attributes:
        rows: Rows of each table, one per image and view.
        size: Bytes of all tables.
        storage: Where they are.
    """

    rows: int
    size: int
    storage: Storage


class NotCacheableError(Exception):
    """The teacher has to run in every step; the message says why, as the end of a sentence."""


def check_views(data: ImageDataModule) -> None:
    """Raise ``NotCacheableError`` if the views of an image cannot be counted."""
    if data.seen_views.reason is not None:
        raise NotCacheableError(data.seen_views.reason)
    if type(data).on_after_batch_transfer is not ImageDataModule.on_after_batch_transfer:
        raise NotCacheableError(f"{type(data).__name__} changes batches in an on_after_batch_transfer of its own")


@torch.no_grad()
def cache_outputs(
    request: CacheRequest, processes: int = 1, print_line: Callable[[str], None] = print, *, writes: bool = True
) -> TeacherCache:
    """Compute the teacher's targets in one pass, or read those of an earlier run with the same teacher and images.

    Processes that train together share the pass; each keeps all targets, because it is served other images every epoch.

    Args:
        request: What they depend on.
        processes: Processes that train on this machine.
        print_line: Prints a line.
        writes: Whether this process writes this machine's files.

    Returns:
        The size and the place of the cache.

    Raises:
        NotCacheableError: Neither memory nor the disk has room for the targets.
    """
    device, cached_rows = request.device, CachedRows(request)
    first = cached_rows.first()
    files = _files(request, first, len(cached_rows))
    size = sum(len(cached_rows) * rows[0].numel() * rows.dtype.itemsize for rows in first.values())
    storage = _agreed_storage(choose_storage(size, device, processes), device)
    if storage is None:
        raise NotCacheableError(f"its targets take {size / 1e9:.1f} GB, more than memory and disk have to spare")
    with _alone(files, print_line):
        known = {}
        for key, file in files.items():
            table = file.read()
            lacks = table is None or not _agree(table[cached_rows.compared].to(device), first[key])
            lacks = bool(largest(lacks, device))  # in any process: all share the pass
            if table is not None and not lacks:
                known[key] = table
        missing = {key: file for key, file in files.items() if key not in known}
        since = "it runs once and not in every step" if missing else "since an earlier run"
        print_line(f"Teacher: cached for {cached_rows.described}, {size / 1e6:,.1f} MB {storage.value}; {since}.")
        found = _computed(cached_rows, missing, storage, device, writes) if missing else {}
    tables = {**known, **found}
    home = device if storage is Storage.DEVICE else torch.device("cpu")
    if storage is not Storage.DISK:  # tables of earlier runs are memory-mapped
        tables = {key: table.to(home, copy=key in known) for key, table in tables.items()}
    request.targets.use_tables(tables, cached_rows.images)
    return TeacherCache(len(cached_rows), size, storage)


@contextmanager
def _alone(files: Files, print_line: Callable[[str], None]) -> Iterator[None]:
    """Let other runs on this machine, as of a study, wait for the same tables and not compute them as well."""
    folder = cache_folder()
    if folder is None or process_count() > 1:  # processes of one run share the pass
        yield
        return
    name = digest(*(file.path.name for file in files.values()), size=1)  # few names, so that few lock files stay
    say = partial(print_line, "Teacher: waits for another run, which computes the same outputs.")
    with one_process_at_a_time(folder / f"teacher-{name}.lock", say, PATIENCE):
        yield


def _agreed_storage(storage: Storage | None, device: torch.device) -> Storage | None:
    """Return the slowest storage that one of the processes needs; ``None`` where one has no room."""
    kinds: list[Storage | None] = [*Storage, None]
    return kinds[largest(kinds.index(storage), device)]


def _files(request: CacheRequest, first: Tables, rows: int) -> Files:
    """Return the file of each table; its key holds all that the values depend on."""
    data, views = request.data, request.data.seen_views
    drawn = (views.count, *views.pipeline.steps) if not views.pipeline.flips_only else (views.count,)
    seen = () if views.pipeline.flips_only else (data.train_rows()[1], *([data.val_rows()[1]] if data.has_val else []))
    base = digest(*request.identity, data.normalization, *drawn, *seen, data.split("train").images)
    files, keys = Files(), Counter[object]()
    for key, values in first.items():
        shape = (rows, *values.shape[1:])
        what = key[1], shape, values.dtype  # without the loss's name, which may differ between runs
        again = [keys[what]] * bool(keys[what])  # another loss has another tensor under the same name
        keys[what] += 1
        files[key] = TableFile(digest(base, *what, *again), shape, values.dtype)
    return files


def _agree(saved: Tensor, now: Tensor) -> bool:
    """Return whether a saved table equals what the teacher computes now, up to rounding."""
    return bool((saved.float() - now.float()).norm() <= 1e-3 * now.float().norm())


def _rows_in(part: Tables) -> int:
    return len(next(iter(part.values())))


def _computed(rows: CachedRows, files: Files, storage: Storage, device: torch.device, writes: bool) -> Tables:
    """Run the teacher; write tables to files where they took long or do not fit into memory."""
    parts = with_progress(rows, "Running the teacher", len(rows), _rows_in)
    if storage is Storage.DISK:
        return _written(parts, files, device, writes)
    home = device if storage is Storage.DEVICE else torch.device("cpu")
    tables = {key: torch.empty(file.shape, dtype=file.dtype, device=home) for key, file in files.items()}
    started, end = monotonic(), 0
    for part in parts:
        count = _rows_in(part)
        for key, table in tables.items():
            table[end : end + count] = part[key]
        end += count
    if writes and monotonic() - started > KEPT_FROM:
        try:
            for key, file in files.items():
                file.write(tables[key].split(ROWS_AT_ONCE))
        except UserError as error:
            rank_zero_warn(f"the teacher's targets are not saved for later runs: {error}")
    return tables


def _written(parts: Iterator[Tables], files: Files, device: torch.device, writes: bool) -> Tables:
    """Write tables part by part, and return them memory-mapped."""
    failed: UserError | None = None
    try:
        with ExitStack() as stack:
            writers = {key: stack.enter_context(file.writer()) for key, file in files.items() if writes}
            for part in parts:
                for key, write in writers.items():
                    write(part[key])
    except UserError as error:
        failed = error
        deque(parts, maxlen=0) if process_count() > 1 else None  # others wait for this process's share
    if largest(failed is not None, device):
        raise NotCacheableError(f"its targets do not fit into memory and not onto the disk: {failed}") from failed
    tables = {}
    for key, file in files.items():
        table = file.read()
        if table is None:
            raise NotCacheableError("another run, with another teacher or other images, has replaced its tables")
        tables[key] = table
    return tables
