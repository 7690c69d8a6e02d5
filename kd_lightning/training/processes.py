"""Processes that train together, and what is said when they lose one another."""

import torch

from kd_lightning.machine import stopping

LOST = ("gloo/transport", "Connection closed by peer", "Connection reset by peer", "NCCL communicator was aborted")
"""What errors of the libraries that connect processes say."""


class ProcessLost(Exception):  # noqa: N818 - it says what happened, not what is wrong here
    """Another process of this run is gone; the message says what is saved and how to go on.

    Args:
        reason: What the connection to it said.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"another process of this run has ended ({reason}): see what it said, and whether it was killed because "
            f"memory ran out; {stopping.resume_hint()}"
        )


def lost_process(error: BaseException) -> ProcessLost | None:
    """Return what to say of an error that a connection to another process raised; ``None`` for other errors."""
    if not torch.distributed.is_available():
        return None
    text = " ".join(str(error).split())
    connected = torch.distributed.is_initialized()
    if isinstance(error, torch.distributed.DistError) or (connected and any(part in text for part in LOST)):
        return ProcessLost(text.split(". This is typically")[0].rpartition("] ")[2].rstrip("."))
    return None
