"""Processes that train together, and the message when one of them is lost."""

import torch

from kd_lightning.machine import stopping

LOST = (
    *("gloo/transport", "Connection closed by peer", "Connection reset by peer", "Application timeout caused pair"),
    "NCCL communicator was aborted",
)
"""Texts in errors of the libraries that connect processes."""


class ProcessLost(Exception):  # noqa: N818 - an event, not a mistake
    """Another process of this run has ended or does not answer; the message says what is saved and how to resume.

    Args:
        reason: The error of the connection to it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"another process of this run has ended or does not answer ({reason}): see its output, whether it was "
            f"killed because memory ran out, and the network between the machines; {stopping.resume_hint()}"
        )


def lost_process(error: BaseException) -> ProcessLost | None:
    """Return the ``ProcessLost`` for an error of a connection to another process; ``None`` for other errors."""
    if not torch.distributed.is_available():
        return None
    text = " ".join(str(error).split())
    connected = torch.distributed.is_initialized()
    if isinstance(error, torch.distributed.DistError) or (connected and any(part in text for part in LOST)):
        return ProcessLost(text.split(". This is typically")[0].rpartition("] ")[2].rstrip("."))
    return None
