"""Where a run's files go."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from kd_lightning.callbacks.keep_checkpoint import KeepCheckpoint
from kd_lightning.callbacks.trainer_callbacks import callbacks_of
from kd_lightning.errors import UserError
from kd_lightning.files import writing
from kd_lightning.networks.weights import ENDINGS

KINDS = (".md", ".yaml", *ENDINGS, ".onnx", ".json", ".ckpt")
"""Kinds of files that a run writes into its folder."""


def run_folder(trainer: Trainer) -> Path | None:
    """Return the folder of the run, usually ``lightning_logs/<config name>/version_N``.

    ``None`` where nothing is to be written: in a smoke test (``fast_dev_run``), or in a test without a logger.
    Outside of the command line it is the logger's folder, which the first process broadcasts, so all
    processes must call this together.
    """
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        return None
    own = next(iter(callbacks_of(trainer, RunFolder)), None)
    return Path(trainer.log_dir or trainer.default_root_dir) if own is None else own.path


class RunFolder(Callback):
    """Gives a run a folder that no other run has: its logger's, or one beside the config's other runs.

    A resumed run is a run of its own. Its checkpoint, which may be untrusted, names the paths of the old run's
    checkpoints; these are ignored.

    Args:
        runs: The folder of the config's runs, for a fit without a logger that has folders.

    Attributes:
        path: The run's folder, once the trainer is set up.
    """

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        self.path: Path | None = None
        self._claimed: dict[Path, int] = {}

    def give_versions(self, loggers: Sequence[Logger]) -> None:
        """Let loggers that count their versions take numbers that no other process gets.

        Raises:
            UserError: The folder of a version that is named in the config holds files that are not this run's.
        """
        for logger in filter(_has_folders, loggers):
            assert isinstance(logger, TensorBoardLogger | CSVLogger)
            if logger._version is None:
                logger._get_next_version = partial(self.claim, _runs(logger))  # type: ignore[method-assign]
            elif others := [path.name for path in Path(logger.log_dir).glob("*") if path.suffix in KINDS]:
                raise UserError(
                    f"the logger's folder {logger.log_dir} holds {min(others)}, which is another run's or yours; "
                    "give the logger another version, or none."
                )

    def claim(self, runs: Path) -> int:
        """Return the number of the run's own folder among others; the first process makes it."""
        if rank_zero_only.rank != 0:  # type: ignore[attr-defined]
            return 0  # never used: the first process broadcasts the folder
        if runs not in self._claimed:
            self._claimed[runs] = claim_version(runs)
        return self._claimed[runs]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Broadcast the folder, and let every checkpoint callback without a folder of its own write there.

        The user's own checkpoint callbacks write to ``checkpoints/own``, so their ``last`` or ``best`` is not ours.
        """
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if self.path is None:
            path = self._path(trainer.loggers, stage) if trainer.is_global_zero else None
            self.path = trainer.strategy.broadcast(path)
        for callback in callbacks_of(trainer, ModelCheckpoint):
            if self.path is not None and callback.dirpath is None:
                own = "" if isinstance(callback, KeepCheckpoint) else "own"
                callback.dirpath = str(self.path / "checkpoints" / own)

    def _path(self, loggers: Sequence[Logger], stage: str) -> Path | None:
        with_folder = next(filter(_has_folders, loggers), None)
        if with_folder is not None:
            assert with_folder.log_dir is not None
            return Path(with_folder.log_dir)
        return self.runs / f"version_{self.claim(self.runs)}" if stage == "fit" else None

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Drop the paths of the old run's checkpoints: Lightning would remove those files."""
        for callback in callbacks_of(trainer, Checkpoint):
            for key in (callback.state_key, callback._legacy_state_key):
                checkpoint["callbacks"].pop(key, None)


def _has_folders(logger: Logger) -> bool:
    """Return whether a logger writes numbered folders on this machine."""
    return isinstance(logger, TensorBoardLogger | CSVLogger) and "://" not in str(logger.save_dir)


def _runs(logger: TensorBoardLogger | CSVLogger) -> Path:
    """Return the folder that holds a logger's numbered folders."""
    if isinstance(logger, TensorBoardLogger):  # it means `~` and `$NAME` as a shell does
        return Path(os.path.expandvars(logger.root_dir)).expanduser()
    return Path(logger.root_dir)


def claim_version(runs: Path) -> int:
    """Make ``version_N`` in a folder of runs and return N, one above the highest; no other process gets the same.

    Raises:
        UserError: The folder cannot be written to.
    """
    with writing(runs):
        runs.mkdir(parents=True, exist_ok=True)
        names = [folder.name.removeprefix("version_") for folder in runs.glob("version_*")]
        numbers = [int(name) for name in names if name.isdecimal()]
        number = max(numbers, default=-1) + 1
        while True:
            try:
                (runs / f"version_{number}").mkdir()
                return number
            except FileExistsError:
                number += 1
