"""The trainer of ``fit``, for the command line and for Python."""

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from inspect import signature
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.utilities.types import _EVALUATE_OUTPUT, EVAL_DATALOADERS, TRAIN_DATALOADERS

from kd_lightning.callbacks import (
    EpochLines,
    LogContactSheet,
    LogHyperparameters,
    LogTestPictures,
    RunSummary,
    SaveOnInterrupt,
    SaveWeights,
    StoppedByUser,
)
from kd_lightning.callbacks.curves import Curves
from kd_lightning.callbacks.run_folder import RunFolder
from kd_lightning.callbacks.trainer_callbacks import callbacks_of
from kd_lightning.errors import UserError
from kd_lightning.fast.callback import TrainAhead
from kd_lightning.machine.cpu import use_own_cores
from kd_lightning.training.checkpoint_files import write_atomic_checkpoints
from kd_lightning.training.console import print_rank_zero, quieten
from kd_lightning.training.run_files import RunFiles, checkpoints
from kd_lightning.training.sync_batch_norm import with_sync
from kd_lightning.training.which_checkpoint import newest_checkpoint
from kd_lightning.wording import did_you_mean

LOGS = "lightning_logs"
"""The folder of all runs."""

DEFAULTS = {"devices": 1, "num_sanity_val_steps": 0, "enable_model_summary": False}
"""Options of Lightning's trainer that ``fit`` sets otherwise."""


def fit_callbacks(
    folder: RunFolder, own: Sequence[Callback], files: RunFiles, keeps: bool, summary: Sequence[Callback]
) -> list[Callback]:
    """Return the callbacks of a fit in their order.

    ``SaveOnInterrupt`` comes after callbacks that average weights; the summary, which lists the others' files, is last.

    Args:
        folder: Gives the run its folder.
        own: The user's.
        files: The files that the run writes.
        keeps: Whether it keeps checkpoints.
        summary: What measures and writes its summary.
    """
    logged = [LogContactSheet(), LogTestPictures(), LogHyperparameters()]
    kept = checkpoints() if keeps else []
    return [folder, *logged, *kept, *files.callbacks(own), *own, SaveOnInterrupt(), TrainAhead(), *summary]


def with_epoch_lines(
    callbacks: Sequence[Callback], own: Sequence[Callback], bar: bool, quiet: bool = False
) -> dict[str, Any]:
    """Return the trainer's options for callbacks and a line an epoch, unless the user has a progress bar of their own.

    Args:
        callbacks: All other callbacks.
        own: Those of the user.
        bar: Whether a bar is shown below the lines, in a terminal.
        quiet: Whether nothing is shown.
    """
    if any(isinstance(callback, ProgressBar) for callback in own):
        return {"callbacks": [*callbacks]}
    lines = [] if quiet else [EpochLines(bar=bar)]
    return {"callbacks": [*lines, *callbacks], "enable_progress_bar": bool(lines)}


def run_logger(logs: Path, name: str, with_test: bool = False) -> Curves:
    """Return the logger of a run, whose curves lie in its folder, ``lightning_logs/NAME/version_N``.

    Args:
        logs: The folder of all runs.
        name: Name of the run.
        with_test: Whether the metrics of a test are curves, too.
    """
    return Curves(str(logs.parent), f"{logs.name}/{name}", with_test=with_test)


@dataclass(frozen=True, repr=False)
class Summary:
    """The summary of a run: printed, or shown in Jupyter, it gives its lines.

    Attributes:
        text: The lines of ``summary.txt``.
        values: The content of ``summary.json``, such as ``values["metrics"]["test/accuracy"]``.
    """

    text: str
    values: dict[str, Any]

    def __repr__(self) -> str:
        return self.text.strip("\n")

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(repr(self))}</pre>"


class RunTrainer(Trainer):
    """Lightning's ``Trainer`` that knows the folder of its run; ``make_trainer`` builds it.

    Args:
        runs: The folder of the runs of its name.
        options: Those of ``Trainer``.
    """

    def __init__(self, runs: Path, **options: Any) -> None:
        super().__init__(**options)
        self._runs = runs

    @property
    def folder(self) -> Path | None:
        """The run's folder, once it has one; ``None`` in a smoke test (``fast_dev_run``)."""
        return callbacks_of(self, RunFolder)[0].path

    @property
    def weights(self) -> str:
        """The weights file of the last fit.

        Raises:
            UserError: There is none.
        """
        files = [path for callback in callbacks_of(self, SaveWeights) for path in callback.files]
        if not files:
            raise UserError(
                "this trainer has written no weights; call trainer.fit(task, datamodule=data) first, without "
                "fast_dev_run."
            )
        return str(files[0])

    @property
    def summary(self) -> Summary:
        """The summary of the run, once it is tested.

        Raises:
            UserError: It is not.
        """
        path = None if self.folder is None else self.folder / "summary.json"
        if path is None or not path.is_file():
            raise UserError("there is no summary yet; call trainer.test(task, datamodule=data) after trainer.fit.")
        return Summary(path.with_suffix(".txt").read_text(encoding="utf-8"), json.loads(path.read_bytes()))

    def fit(
        self,
        model: LightningModule,
        train_dataloaders: TRAIN_DATALOADERS | LightningDataModule | None = None,
        val_dataloaders: EVAL_DATALOADERS | None = None,
        datamodule: LightningDataModule | None = None,
        ckpt_path: Any = None,
        weights_only: bool | None = True,
    ) -> None:
        """Train; ``ckpt_path="last"`` goes on from the last checkpoint of the newest run of this name.

        Raises:
            KeyboardInterrupt: Ctrl-C; its message says what is saved.
        """
        try:
            super().fit(model, train_dataloaders, val_dataloaders, datamodule, self._found(ckpt_path), weights_only)
        except StoppedByUser as stopped:
            raise KeyboardInterrupt(str(stopped)) from None

    def validate(
        self,
        model: LightningModule | None = None,
        dataloaders: EVAL_DATALOADERS | LightningDataModule | None = None,
        ckpt_path: Any = None,
        verbose: bool = True,
        datamodule: LightningDataModule | None = None,
        weights_only: bool | None = True,
    ) -> _EVALUATE_OUTPUT:
        """Measure on the validation images; ``ckpt_path`` may be ``best`` or ``last`` of the newest run."""
        return super().validate(model, dataloaders, self._found(ckpt_path), verbose, datamodule, weights_only)

    def test(
        self,
        model: LightningModule | None = None,
        dataloaders: EVAL_DATALOADERS | LightningDataModule | None = None,
        ckpt_path: Any = None,
        verbose: bool = False,
        datamodule: LightningDataModule | None = None,
        weights_only: bool | None = True,
    ) -> _EVALUATE_OUTPUT:
        """Measure on the test images, and print the summary of the run; ``ckpt_path`` is that of ``validate``."""
        results = super().test(model, dataloaders, self._found(ckpt_path), verbose, datamodule, weights_only)
        print_rank_zero(callbacks_of(self, RunSummary)[0].text)
        return results

    def _found(self, checkpoint: Any) -> Any:
        """Return the path of a checkpoint: Lightning would look for ``best`` and ``last`` in a new run's folder."""
        if checkpoint not in ("best", "last"):
            return checkpoint
        path = newest_checkpoint(self._runs, checkpoint)
        if path is None:
            raise UserError(f"no run in {self._runs} has a {checkpoint} checkpoint; leave ckpt_path out.")
        print_rank_zero(f"Checkpoint: {path}")
        return str(path)


def make_trainer(name: str, *, files: Mapping[str, str | None] | None = None, **options: Any) -> RunTrainer:
    """Return Lightning's ``Trainer`` with all that the command ``fit`` has.

    Its run has a folder of its own, ``lightning_logs/NAME/version_N``, with TensorBoard's curves and a sheet of
    training images, the last and the best checkpoint, weights and ONNX files at the end of ``fit``, and a summary after
    ``test``. Ctrl-C saves a checkpoint after the running step; ``trainer.fit(..., ckpt_path="last")`` goes on from it.

    Args:
        name: Name of the run.
        files: Names of the files that it writes, as the options ``--files`` of ``fit``: ``weights``, ``onnx``,
            ``dynamic`` and ``static``; ``{"onnx": None}`` exports nothing.
        options: Those of Lightning's ``Trainer``, such as ``max_epochs``, ``callbacks`` or ``logger``.

    Raises:
        UserError: The name is not one of a folder, or there is no such option.
    """
    if not name.isprintable() or name.startswith(".") or not name or {"/", "\\", ":"} & set(name):
        raise UserError(f"the run is called {name!r}, but its name is also its folder's; give a plain name.")
    _check_names("Lightning's Trainer", options, list(signature(Trainer).parameters))
    _check_names("files", files or {}, list(signature(RunFiles).parameters))
    quieten()
    use_own_cores()
    logs = Path(options.get("default_root_dir") or ".") / LOGS
    if options.get("logger") in (None, True):
        options["logger"] = run_logger(logs, name)
    given, folder = options.pop("callbacks", None) or [], RunFolder(logs / name)
    own = [given] if isinstance(given, Callback) else list(given)
    keeps = options.get("enable_checkpointing") is not False
    callbacks = fit_callbacks(folder, own, RunFiles(**(files or {})), keeps, [RunSummary(name)])  # type: ignore[arg-type]
    lines = with_epoch_lines(callbacks, own, options.get("enable_progress_bar") is not False)
    trainer = RunTrainer(logs / name, **(DEFAULTS | options | with_sync(options) | lines))
    folder.give_versions(trainer.loggers)
    write_atomic_checkpoints(trainer)
    return trainer


def _check_names(owner: str, given: Mapping[str, Any], known: list[str]) -> None:
    for name in given:
        if name not in known:
            near = [f"max_{name}"] if f"max_{name}" in known else get_close_matches(name, known)
            listed = "" if near else f"; it has {', '.join(known)}"
            raise UserError(f"{owner} has no option {name!r}{did_you_mean(near)}{listed}.")
