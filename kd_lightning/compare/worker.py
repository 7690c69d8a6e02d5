"""One run of a study, in a process that runs many of them."""

import os
import shutil
import signal
import sys
import threading
import traceback
from dataclasses import dataclass, replace
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

import torch
from lightning.pytorch.loggers import TensorBoardLogger

from kd_lightning.callbacks import SaveWeights
from kd_lightning.callbacks.interrupt import last_checkpoint
from kd_lightning.callbacks.run_folder import KINDS
from kd_lightning.callbacks.trainer_callbacks import callbacks_of
from kd_lightning.compare.fit import StudyFit, TuningFit
from kd_lightning.compare.measure import Measure
from kd_lightning.compare.results import Run, finite
from kd_lightning.compare.run_key import weights_hash
from kd_lightning.compare.store import weights_file, write_run
from kd_lightning.errors import UserError
from kd_lightning.files import atomic_write, disk_full_message, writing
from kd_lightning.training.cli import TrainingCLI, run
from kd_lightning.training.console import quieten
from kd_lightning.wording import shown

PRINTED = "output.txt"
KEY = "key.txt"


@dataclass(frozen=True)
class Job:
    """A run of a study for a worker process.

    Attributes:
        row: Name of its row.
        seed: Its seed.
        args: Arguments of ``fit``.
        folder: Folder of its logs.
        result: The file of its results; its weights lie beside it.
        hyperparameters: Its hyper-parameters in TensorBoard.
        tuning: Whether it is measured on validation images only.
    """

    row: str
    seed: int
    args: list[str]
    folder: Path
    result: Path
    hyperparameters: dict[str, Any]
    tuning: bool = False

    @property
    def key(self) -> str:
        """The key of all that the run depends on."""
        return self.result.stem


def worker_loop(connection: Connection, threads: int) -> None:
    """Run one job after another until the connection is closed; send ``None`` or the failure of each.

    Ctrl-C in the terminal does not reach this process: it ends with its parent, which decides.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setsid"):
        os.setsid()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    quieten()
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        connection.send(attempt(job))


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def attempt(job: Job, *, resumes: bool = False) -> str | None:
    """Run a job and return its failure, or ``None``; what it prints goes to a file in its folder.

    Args:
        job: The run.
        resumes: Whether it keeps checkpoints, and goes on from the one that an earlier attempt has left.
    """
    try:
        checkpoint = checkpoint_of(job) if resumes else None
        if checkpoint is None:
            clear(job.folder)
        _print_to(job.folder / PRINTED)
        run_job(job, checkpoint, keeps_checkpoints=resumes)
    except UserError as error:
        return shown(" ".join(str(error).split()))
    except BaseException as error:  # anything that the user's network or data source raises
        if resumes and _ends_attempt(error):
            raise SystemExit from error
        if (full := disk_full_message(error)) is not None:
            return shown(full)
        traceback.print_exc()
        reason = shown(" ".join(str(error).split()))
        return f"{type(error).__name__}: {reason[:300]} (all of it is in {job.folder / PRINTED})"
    return None


def _ends_attempt(error: BaseException) -> bool:
    """Return whether a cluster ends this attempt to make another, which may kill the command that asks for it."""
    return isinstance(error, SystemExit) or (isinstance(error, CalledProcessError) and error.cmd[0] == "scontrol")


def clear(folder: Path) -> None:
    """Empty a run's folder of logs, where an interrupted run or a run of another config may have left files.

    Raises:
        UserError: The folder lies outside of the study's logs, through a link, or cannot be written.
    """
    logs = folder.parents[1]
    if folder.is_symlink() or not folder.resolve().is_relative_to(logs.resolve()):
        raise UserError(f"{folder} leads out of {logs}, where nothing is removed; remove that link.")
    with writing(folder):
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)


def _print_to(path: Path) -> None:
    """Append what this process prints, libraries in C included, to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    with path.open("ab") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)


def checkpoint_of(job: Job) -> Path | None:
    """Return the checkpoint of a job that was begun; remove what would keep its folder from being used again."""
    checkpoint, key = last_checkpoint(job.folder), job.folder / KEY
    if not checkpoint.is_file() or not key.is_file() or key.read_text(encoding="utf-8") != job.key:
        return None
    for path in job.folder.iterdir():
        if path.suffix in KINDS and not path.is_dir():
            path.unlink()
    return checkpoint


def run_job(job: Job, checkpoint: Path | None = None, *, keeps_checkpoints: bool = False) -> None:
    """Fit and test; write the weights, and last the results.

    Args:
        job: The run.
        checkpoint: Where it goes on from.
        keeps_checkpoints: Whether it keeps its last epoch until it is finished.
    """
    args = [*job.args, *([f"--ckpt_path={checkpoint}"] if checkpoint else [])]
    if keeps_checkpoints:
        job.folder.mkdir(parents=True, exist_ok=True)
        (job.folder / KEY).write_text(job.key, encoding="utf-8")
    done = run(args, TuningFit if job.tuning else StudyFit, folder=job.folder, keeps_checkpoints=keeps_checkpoints)
    measured = callbacks_of(done.trainer, Measure)[0].run(job.seed)
    _log_hyperparameters(done, job.hyperparameters, measured)
    saved = callbacks_of(done.trainer, SaveWeights)[0]
    with atomic_write(weights_file(job.result)) as temporary:
        shutil.copyfile(saved.files[0], temporary)
    write_run(replace(measured, weights=weights_hash(weights_file(job.result))), job.result)
    if keeps_checkpoints:
        shutil.rmtree(last_checkpoint(job.folder).parent, ignore_errors=True)


def _log_hyperparameters(done: TrainingCLI, hyperparameters: dict[str, Any], measured: Run) -> None:
    """Fill TensorBoard's HParams tab."""
    logger = done.trainer.logger
    assert isinstance(logger, TensorBoardLogger)
    names = ("test_accuracy", "test_loss", "calibration_error", "training_seconds")
    metrics = {f"final/{name}": value for name in names if (value := finite(getattr(measured, name))) is not None}
    logger.log_hyperparams(hyperparameters, metrics)
    logger.finalize("success")
