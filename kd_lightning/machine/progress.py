"""A progress bar for slow work before training starts."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Part = TypeVar("Part")


def with_progress(parts: Iterable[Part], what: str, total: int, size: Callable[[Part], int]) -> Iterator[Part]:
    """Yield the parts; the first process shows a progress bar where they take more than a second.

    Args:
        parts: The work, part by part.
        what: The bar's title.
        total: The size of all parts.
        size: Returns the size of a part.
    """
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    disable = getattr(rank_zero_only, "rank", 0) != 0
    progress = Progress(*columns, console=Console(stderr=True), disable=disable)
    task = progress.add_task("", total=total)
    begin = time.monotonic()
    try:
        for part in parts:
            progress.advance(task, size(part))
            if time.monotonic() - begin > 1:
                progress.start()
            yield part
    finally:
        if progress.live.is_started:
            progress.stop()
