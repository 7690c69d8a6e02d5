"""A study's results as plain data: the runner fills them, every report reads them."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from kd_lightning.compare.choice import Choice
from kd_lightning.compare.study_plan import StudyPlan

Role = Literal["teacher", "baseline", "student"]
ARRAYS = ("labels", "predicted")
TeacherPolicy = Literal["one for all seeds", "one per seed"]


@dataclass(frozen=True)
class Curves:
    """One value an epoch; all four as long as ``epochs``, except that validation is empty where no split was held out.

    Attributes:
        epochs: Epoch numbers, from 1.
        train_loss: Mean training loss of the epoch.
        train_accuracy: Training accuracy in [0, 1].
        val_loss: Validation loss.
        val_accuracy: Validation accuracy in [0, 1].
    """

    epochs: tuple[int, ...] = ()
    train_loss: tuple[float, ...] = ()
    train_accuracy: tuple[float, ...] = ()
    val_loss: tuple[float, ...] = ()
    val_accuracy: tuple[float, ...] = ()

    def to_plain(self) -> dict[str, Any]:
        """Return lists that JSON accepts; a value that is not finite becomes ``None``."""
        return {item.name: [finite(value) for value in getattr(self, item.name)] for item in fields(self)}

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Self:
        """Build it from what ``to_plain`` gave."""
        losses = {item.name: tuple(_number(value) for value in values[item.name]) for item in fields(cls)[1:]}
        epochs = tuple(int(epoch) for epoch in values["epochs"])
        if any(len(loss) not in (0, len(epochs)) for loss in losses.values()):
            raise ValueError("a curve must have a value for each epoch, or none")
        return cls(epochs=epochs, **losses)


@dataclass(frozen=True)
class Run:
    """One finished run, evaluated once on the test split at its last epoch; a tuning run has no test images.

    Attributes:
        seed: Seed of the run; runs of different rows with the same seed are paired.
        test_loss: Mean cross-entropy on the test split.
        calibration_error: Expected calibration error in [0, 1].
        teacher_agreement: Share of test images where teacher and student predict the same class, in [0, 1].
        teacher_accuracy: Test accuracy of its teacher, in [0, 1].
        labels: The class of each test image, (N,) int64, in the order of the test split.
        predicted: The class that the network predicts for it, (N,) int64.
        class_count: Number of classes.
        curves: Training and validation, an epoch at a time.
        parameters: Trained and fixed parameters of the network.
        multiply_adds: Multiply-adds of one image's forward.
        training_seconds: Wall-clock time of ``fit``.
        weights: The hash of its weights, as ``weights_hash`` returns it; empty for a run of an earlier version of this
            package.
        onnx_bytes: Size of the exported ONNX file.
        latency_ms: Milliseconds that ONNX Runtime takes for one image.
        made_by: The version of this package that made it, as ``package_version`` returns it.
        made_on: The ``host`` that made it, its processor or GPU (``device``), the CPU ``threads``, and the versions of
            libraries; empty for a run of an earlier version of this package.
    """

    seed: int
    test_loss: float
    calibration_error: float
    labels: NDArray[np.int64] = field(compare=False, repr=False)
    predicted: NDArray[np.int64] = field(compare=False, repr=False)
    class_count: int
    parameters: int
    multiply_adds: int
    training_seconds: float
    curves: Curves = field(default_factory=Curves)
    teacher_agreement: float | None = None
    teacher_accuracy: float | None = None
    onnx_bytes: int | None = None
    latency_ms: float | None = None
    weights: str = ""
    made_by: str = ""
    made_on: dict[str, str] = field(default_factory=dict)

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each test image is classified correctly, (N,)."""
        return np.equal(self.predicted, self.labels)

    @cached_property
    def confusion(self) -> tuple[tuple[int, ...], ...]:
        """Test images by (true class, predicted class), K x K counts."""
        count = self.class_count
        cells = np.bincount(self.labels * count + self.predicted, minlength=count**2).reshape(count, count)
        return tuple(tuple(line) for line in cells.tolist())

    @property
    def test_accuracy(self) -> float:
        """Share of test images classified correctly, in [0, 1]."""
        return float(self.correct.mean()) if len(self.labels) else math.nan

    @property
    def class_accuracy(self) -> tuple[float, ...]:
        """Accuracy of each class in [0, 1]; NaN for a class without test images."""
        return tuple(line[k] / sum(line) if any(line) else math.nan for k, line in enumerate(self.confusion))

    def to_plain(self) -> dict[str, Any]:
        """Return all but the images' classes as values that JSON accepts, accuracies included for the reader."""
        plain = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in ARRAYS}
        plain["curves"], plain["confusion"] = self.curves.to_plain(), self.confusion
        plain["test_loss"], plain["calibration_error"] = finite(self.test_loss), finite(self.calibration_error)
        plain["test_accuracy"] = finite(self.test_accuracy)
        plain["class_accuracy"] = [finite(value) for value in self.class_accuracy]
        return plain

    @classmethod
    def from_plain(cls, values: Mapping[str, Any], labels: NDArray[np.int64], predicted: NDArray[np.int64]) -> Self:
        """Build it from what ``to_plain`` gave; ``KeyError``, ``TypeError`` or ``ValueError`` on anything else."""
        given = {
            item.name: values[item.name] for item in fields(cls) if item.name not in (*ARRAYS, "made_on", "weights")
        }
        given["weights"] = str(values.get("weights", ""))
        given["made_on"] = {str(name): str(value) for name, value in values.get("made_on", {}).items()}
        for name in ("seed", "parameters", "multiply_adds", "onnx_bytes"):
            given[name] = _size(values[name], int, optional=name == "onnx_bytes")
        for name in ("training_seconds", "teacher_agreement", "teacher_accuracy", "latency_ms"):
            given[name] = _size(values[name], int, float, optional=name != "training_seconds")
        given["curves"] = Curves.from_plain(values["curves"])
        given |= {name: _number(values[name]) for name in ("test_loss", "calibration_error")}
        given |= {"made_by": str(values["made_by"]), "class_count": len(values["confusion"])}
        run = cls(labels=labels, predicted=predicted, **given)
        if run.confusion != tuple(map(tuple, values["confusion"])):
            raise ValueError("its confusion matrix is not that of its predictions")
        return run


@dataclass(frozen=True)
class Failure:
    """A run that failed, with the reason in one line."""

    seed: int
    reason: str


@dataclass(frozen=True)
class Row:
    """One config and its runs.

    Attributes:
        name: Short name for reports, unique in the study.
        config: Name of its config.
        role: Students are compared with the ``baseline``; the ``teacher`` is shown, but not compared.
        runs: Finished runs, one a seed.
        failures: Runs that failed.
        reported: Test accuracy in [0, 1] that others reported for this row.
        no_costs: Why its network has no ONNX size and latency; empty where it has, or where none are requested.
        exploratory: Why the study's plan leaves it out, so that it has no verdict; empty where the plan has it.
        choice: How its setting was chosen, where several were tried.
    """

    name: str
    config: str
    role: Role = "student"
    runs: tuple[Run, ...] = ()
    failures: tuple[Failure, ...] = ()
    reported: float | None = None
    no_costs: str = ""
    exploratory: str = ""
    choice: Choice | None = None


@dataclass(frozen=True)
class Settings:
    """How a study was run, to judge it and to run it again.

    Attributes:
        data: The data in words, such as ``CIFAR-10 (JPEG copy)``.
        protocol: Which images train and validate, and when the test split is evaluated, in one sentence.
        teacher: Whether all seeds share one teacher or each has its own.
        epochs: Epochs that the baseline was trained for, in the longest of its runs.
        seeds: The requested seeds, finished or not.
        plan: The plan, fixed before the first run.
        machine: Processor and accelerator.
        versions: Package name to version.
        command: The command line that runs the study again.
        new_study: The command line of a study of the same rows with new seeds, without their number.
        date: Day of the last run, as ``2026-01-31``.
        seconds: Total time of the study, where known.
        other_versions: A sentence on runs that another version of this package made; empty where there are none.
        other_machines: A sentence on seeds whose runs were made on machines that differ; empty where there are none.
    """

    data: str
    protocol: str
    teacher: TeacherPolicy
    epochs: int
    seeds: tuple[int, ...]
    plan: StudyPlan
    machine: str
    versions: dict[str, str]
    command: str
    new_study: str = ""
    date: str = ""
    seconds: float | None = None
    other_versions: str = ""
    other_machines: str = ""


@dataclass(frozen=True)
class Study:
    """Rows of different names to compare on the same test images, with one baseline among them."""

    name: str
    settings: Settings
    class_names: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def baseline(self) -> Row:
        """The row that the students are compared with."""
        return next(row for row in self.rows if row.role == "baseline")

    def to_plain(self) -> dict[str, Any]:
        """Return everything but the classes of images as values that JSON accepts."""
        rows = [{**vars(row), "runs": [run.to_plain() for run in row.runs]} for row in self.rows]
        for row in rows:
            row["failures"] = [asdict(failure) for failure in row["failures"]]
            row["choice"] = row["choice"] and row["choice"].to_plain()
        settings = {**asdict(self.settings), "plan": self.settings.plan.to_plain()}
        names = {"name": self.name, "class_names": list(self.class_names)}
        return {**names, "settings": settings, "rows": rows}


def finite(value: float | None) -> float | None:
    """Return the value, or ``None`` where it is NaN or infinite, which JSON cannot hold."""
    return value if value is not None and math.isfinite(value) else None


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _size(value: Any, *types: type[float], optional: bool) -> float | None:
    """Return a number of a file from 0 on, or raise ``ValueError``."""
    if value is None and optional:
        return None
    if type(value) not in types or not 0 <= value < 2**63:
        raise ValueError(f"{str(value)[:40]} is not a number from 0 on")
    number: float = value
    return number
