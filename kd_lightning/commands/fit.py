"""``fit``, ``validate`` and ``test``: train, and measure what was trained."""

import sys
from collections.abc import Sequence

from kd_lightning.callbacks import StoppedByUser
from kd_lightning.machine import stopping
from kd_lightning.machine.cpu import use_own_cores
from kd_lightning.training.cli import run
from kd_lightning.training.console import full_disk_printed_once, print_rank_zero, quieten
from kd_lightning.training.processes import lost_process


def main(args: Sequence[str]) -> int:
    """Run ``fit``, ``validate`` or ``test``; the first argument names it."""
    quieten()
    use_own_cores()
    try:
        with full_disk_printed_once():
            run(args)
    except StoppedByUser as stopped:
        print_rank_zero(str(stopped))
        stopping.wait_for_rank_zero(seconds=10)
        return stopped.status
    except RuntimeError as error:
        if (lost := lost_process(error)) is None:
            raise
        stopping.wait_for_rank_zero(seconds=10)
        print(f"error: {lost}", file=sys.stderr)
        return 1
    return 0
