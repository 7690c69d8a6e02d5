"""One run of a study, in a process that runs many of them."""

import os
import shutil
import signal
import sys
import threading
import traceback
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers import TensorBoardLogger

from kd_lightning.callbacks import SaveWeights
from kd_lightning.callbacks.trainer_callbacks import callbacks_of
from kd_lightning.compare.fit import StudyFit, TuningFit
from kd_lightning.compare.measure import Measure
from kd_lightning.compare.results import Run, finite
from kd_lightning.compare.store import weights_file, write_run
from kd_lightning.errors import UserError
from kd_lightning.files import atomic_write, disk_full_message, writing
from kd_lightning.training.cli import TrainingCLI, run
from kd_lightning.training.console import quieten
from kd_lightning.wording import shown

PRINTED = "output.txt"


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
        connection.send(_attempt(job))


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _attempt(job: Job) -> str | None:
    """Run a job; what it prints goes to a file in its folder."""
    try:
        clear(job.folder)
        _print_to(job.folder / PRINTED)
        run_job(job)
    except UserError as error:
        return shown(" ".join(str(error).split()))
    except BaseException as error:  # anything that the user's network or data source raises
        if (full := disk_full_message(error)) is not None:
            return shown(full)
        traceback.print_exc()
        reason = shown(" ".join(str(error).split()))
        return f"{type(error).__name__}: {reason[:300]} (all of it is in {job.folder / PRINTED})"
    return None


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
    """Send what this process prints, libraries in C included, to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    with path.open("wb") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)


def run_job(job: Job) -> None:
    """Fit and test; write the weights, and last the results."""
    done = run(job.args, TuningFit if job.tuning else StudyFit, folder=job.folder)
    measured = callbacks_of(done.trainer, Measure)[0].run(job.seed)
    _log_hyperparameters(done, job.hyperparameters, measured)
    saved = callbacks_of(done.trainer, SaveWeights)[0]
    with atomic_write(weights_file(job.result)) as temporary:
        shutil.copyfile(saved.files[0], temporary)
    write_run(measured, job.result)


def _log_hyperparameters(done: TrainingCLI, hyperparameters: dict[str, Any], measured: Run) -> None:
    """Fill TensorBoard's HParams tab."""
    logger = done.trainer.logger
    assert isinstance(logger, TensorBoardLogger)
    names = ("test_accuracy", "test_loss", "calibration_error", "training_seconds")
    metrics = {f"final/{name}": value for name in names if (value := finite(getattr(measured, name))) is not None}
    logger.log_hyperparams(hyperparameters, metrics)
    logger.finalize("success")
