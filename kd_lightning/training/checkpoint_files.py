"""Checkpoints that are written atomically, and removed only by the run that wrote them."""

import io
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.utilities.cloud_io import _is_local_file_protocol
from lightning.fabric.utilities.types import _PATH
from lightning.pytorch import Trainer
from lightning.pytorch.plugins.io.wrapper import _WrappingCheckpointIO

from kd_lightning.errors import UserError
from kd_lightning.files import atomic_write


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes checkpoints atomically, and removes only those that it has written.

    Lightning removes older checkpoints at the paths that its state names, and that state comes from a file that may be
    untrusted.
    """

    def __init__(self) -> None:
        self._written: set[str] = set()

    def save_checkpoint(self, checkpoint: dict[str, Any], path: _PATH, storage_options: Any = None) -> None:
        """Write a checkpoint; where that fails, the previous one stays.

        Raises:
            UserError: The folder cannot be written to, or the disk is full.
        """
        self._written.add(_absolute(path))
        if _is_local_file_protocol(path):
            _write(checkpoint, Path(path))
        else:
            super().save_checkpoint(checkpoint, path, storage_options)

    def load_checkpoint(
        self, path: _PATH, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint without running any code from it; ``weights_only`` is ignored."""
        return super().load_checkpoint(path, map_location, weights_only=True)

    def remove_checkpoint(self, path: _PATH) -> None:
        """Remove a checkpoint that was written here; other paths are ignored."""
        if _absolute(path) not in self._written:
            return
        if _is_local_file_protocol(path):
            Path(path).unlink(missing_ok=True)  # never a folder
        else:
            super().remove_checkpoint(path)


def _absolute(path: _PATH) -> str:
    return str(Path(path).absolute()) if _is_local_file_protocol(path) else str(path)


def _write(checkpoint: dict[str, Any], path: Path) -> None:
    content = io.BytesIO()  # torch hides the system's errors where it writes to a file itself
    torch.save(checkpoint, content)
    try:
        with atomic_write(path) as temporary:
            temporary.write_bytes(content.getvalue())  # a view would crash some Python 3.12 where writing fails
    except UserError as error:
        if not path.is_file():
            raise
        before = f"the previous one is still there; resume from it with --ckpt_path {path}"
        raise UserError(f"{str(error).rstrip('.')}; {before}.") from error


def write_atomic_checkpoints(trainer: Trainer) -> None:
    """Let a trainer write its checkpoints atomically, unless the user has given it another plugin for that."""
    strategy = trainer.strategy
    given = strategy._checkpoint_io  # the public property would create Lightning's own
    if given is None:
        strategy.checkpoint_io = AtomicCheckpoints()
    elif isinstance(given, _WrappingCheckpointIO) and given.checkpoint_io is None:
        given.checkpoint_io = AtomicCheckpoints()
