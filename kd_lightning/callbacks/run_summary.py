"""The summary of a run, as text and as JSON."""

import platform
import time
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from kd_lightning.callbacks.export_onnx import ExportONNX
from kd_lightning.callbacks.measure_baseline import ACCURACY, MeasureBaseline, no_gain_reason
from kd_lightning.callbacks.model_card import model_card
from kd_lightning.callbacks.run_folder import run_folder
from kd_lightning.callbacks.summary_text import summary_text
from kd_lightning.callbacks.trained import images_tested, images_used, is_untrained, training_record
from kd_lightning.callbacks.trainer_callbacks import callbacks_of
from kd_lightning.export import GateError
from kd_lightning.files import TEMP_FOLDER, atomic_write
from kd_lightning.machine.terminal import FILE_WIDTH, columns
from kd_lightning.networks import Network
from kd_lightning.networks.fusable import fused
from kd_lightning.networks.read_back import ReadBackError
from kd_lightning.networks.weights import ENDINGS
from kd_lightning.strict_json import strict_json
from kd_lightning.teacher import AnyTeacher, TeacherCache
from kd_lightning.wording import counted

if TYPE_CHECKING:
    from kd_lightning.tasks import Task

SHOWN = (".md", ".yaml", ".ckpt", *ENDINGS, ".onnx")

UNEQUAL_STEPS = (
    "an epoch of this run passes over unlabelled images, too, so that the student without a teacher had fewer steps "
    "(compare tests configs of equal trainer.max_steps)"
)

SMOKE_TEST = "Smoke test: training, validation and test have run on a few batches each; nothing was written."


class RunSummary(Callback):
    """Write ``summary.json``, ``summary.txt`` and a model card (``README.md``) when a fit has been tested.

    Args:
        name: Name of the run: its config's.

    Attributes:
        text: The summary for people, once it is written.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._started = time.monotonic()
        self._fitted = False
        self._record: dict[str, Any] = {}
        self._used: dict[str, int] = {}
        self._training_started: float | None = None
        self._trained = 0.0
        self._fit_metrics: dict[str, float] = {}
        self.text = ""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record that this process fits."""
        self._fitted = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock of training."""
        self._training_started = time.monotonic()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock of training."""
        self._trained = time.monotonic() - (self._training_started or 0)
        self._fit_metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record how much was trained, which Lightning forgets; print a line where there was nothing to train."""
        self._note(trainer)
        if is_untrained(trainer):
            pl_module.print("Nothing was trained, so no weights and no ONNX files are written.")
        elif self._training_started is None:
            pl_module.print(
                f"Nothing is left to train: the checkpoint has done {counted(trainer.current_epoch, 'epoch')} and "
                f"{counted(trainer.global_step, 'step')}. The steps after training run again."
            )

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Record the same where a file was refused, because later callbacks get no ``on_fit_end`` then."""
        if isinstance(exception, GateError | ReadBackError):
            self._note(trainer)

    def _note(self, trainer: Trainer) -> None:
        self._record, self._used = training_record(trainer), images_used(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the summary of this process's fit after the test, or without one (``limit_test_batches: 0``)."""
        if stage != "test":
            return
        folder = run_folder(trainer)
        if not self._fitted or not trainer.is_global_zero:
            return
        if folder is None:
            self.text = SMOKE_TEST
            return
        task = cast("Task", pl_module)
        summary, report = self._summary(trainer, task), _report(trainer)
        card = model_card(summary, replace(task.model_info(), **self._record), report, _files(folder))
        if card is not None:
            with atomic_write(folder / "README.md") as path:
                path.write_text(card, encoding="utf-8")
        summary |= {"folder": str(folder), "files": {str(path): path.stat().st_size for path in _files(folder)}}
        with atomic_write(folder / "summary.json") as path:
            path.write_text(strict_json(summary, indent=2) + "\n", encoding="utf-8")
        with atomic_write(folder / "summary.txt") as path:
            path.write_text(summary_text(summary, report, FILE_WIDTH), encoding="utf-8")
        self.text = summary_text(summary, report, columns())

    def _summary(self, trainer: Trainer, task: "Task") -> dict[str, Any]:
        data, used = task.data, self._used | {"test": images_tested(trainer)}
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        export = _report(trainer)
        return {
            "name": self.name,
            "task": type(task).__name__,
            "network": _describe(fused(task.network)),
            "teacher": _teacher(task, metrics),
            "baseline": _baseline(trainer, metrics),
            "no_gain": self._no_gain(trainer, task),
            "losses": {name: type(loss).__name__ for name, loss in getattr(task, "losses", {}).items()},
            "balance": task.found_weights(),
            "data": {
                "name": data.name,
                "hub_name": data.hub_name,
                "classes": list(data.class_names),
                **{f"{name}_images": images for name, images in used.items()},
                "views": data.seen_views.count,
                "unlabelled": data.num_unlabelled,
                "images": {
                    "train": len(data.train_rows()[1]),
                    "val": len(data.val_rows()[1]) if data.has_val else 0,
                    "test": len(data.test_rows()[1]),
                },
                "mean": list(data.normalization.mean),
                "std": list(data.normalization.std),
            },
            **self._record,
            "steps": trainer.global_step,
            "metrics": {**self._fit_metrics, **metrics},
            "seconds": {"training": round(self._trained, 2), "total": round(time.monotonic() - self._started, 2)},
            "export": None if export is None else export.to_plain(),
            "device": _device(trainer),
            "versions": {name: version(name) for name in ("torch", "torchvision", "lightning", "onnxruntime")},
        }

    def _no_gain(self, trainer: Trainer, task: "Task") -> str:
        own = replace(task.model_info(), **self._record)
        infos = [callback.network.info for callback in callbacks_of(trainer, MeasureBaseline)]
        if infos and task.data.num_unlabelled:
            return UNEQUAL_STEPS
        return next((no_gain_reason(own, info) for info in infos if info is not None), "")


def _report(trainer: Trainer) -> Any:
    return next((callback.report for callback in callbacks_of(trainer, ExportONNX)), None)


def _baseline(trainer: Trainer, metrics: dict[str, float]) -> dict[str, Any] | None:
    measured = [callback.network for callback in callbacks_of(trainer, MeasureBaseline)]
    if not measured:
        return None
    network, info = measured[0], measured[0].info
    assert info is not None
    assert network.weights is not None  # it was trained here
    weights = Path(network.weights)
    trained = {"run": weights.parent.parent.name, "epochs": info.epochs, "limits": info.limits, "weights": str(weights)}
    return {**_describe(network.network), **trained, "test_accuracy": metrics.get(ACCURACY)}


def _describe(network: Network) -> dict[str, Any]:
    return {"name": type(network).__name__, "parameters": sum(values.numel() for values in network.parameters())}


def _teacher(task: "Task", metrics: dict[str, float]) -> dict[str, Any] | None:
    teacher: AnyTeacher | None = getattr(task, "teacher", None)  # Distill has one
    if teacher is None:
        return None
    kept: TeacherCache | None = getattr(task, "teacher_cache", None)
    cached = None if kept is None else {"rows": kept.rows, "bytes": kept.size, "place": kept.storage.value}
    return {
        "name": teacher.title,
        "parameters": sum(_describe(network)["parameters"] for network in teacher.networks),
        "weights": teacher.weights,
        "test_accuracy": metrics.get("test/teacher_accuracy"),
        "cached": cached,
    }


def _files(folder: Path) -> list[Path]:
    paths = (path for path in sorted(folder.rglob("*")) if path.suffix in SHOWN and path.name != "hparams.yaml")
    return [path for path in paths if not any(part.startswith(TEMP_FOLDER) for part in path.parts)]


def _device(trainer: Trainer) -> str:
    root = trainer.strategy.root_device
    if root.type == "cuda":
        return f"{trainer.world_size} x {torch.cuda.get_device_name(root)}"
    count = "" if trainer.world_size == 1 else f"{trainer.world_size} processes, each on "
    return f"{count}{root.type} ({platform.machine()}, {counted(torch.get_num_threads(), 'thread')})"
