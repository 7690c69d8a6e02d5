"""``fit`` as a study runs it: it gives only the numbers of a run and its weights."""

from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Trainer

from kd_lightning.callbacks import LogHyperparameters, LogTestPictures, SaveOnInterrupt
from kd_lightning.callbacks.curves import Curves
from kd_lightning.callbacks.trainer_callbacks import callbacks_of
from kd_lightning.compare.measure import Measure
from kd_lightning.compare.run_key import own_callbacks
from kd_lightning.data import ImageDataModule
from kd_lightning.errors import UserError
from kd_lightning.tasks import Task
from kd_lightning.training.checks import TeacherPart, check_trainer, teachers_of
from kd_lightning.training.cli import TrainingCLI
from kd_lightning.training.first import find, teacher_run
from kd_lightning.training.parser import plain


class StudyFit(TrainingCLI):
    """One run of a study: measured, with its logs and its weights in a folder of its own.

    Args:
        folder: The run's folder.
        keeps_checkpoints: Whether it keeps its last epoch in that folder.
        options: Lightning's.
    """

    def __init__(self, *args: Any, folder: Path, keeps_checkpoints: bool = False, **options: Any) -> None:
        self.folder = folder  # before Lightning's, which runs the command
        self.keeps_checkpoints = keeps_checkpoints
        super().__init__(*args, **options)

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Offer only ``fit``: the parsers of the other commands take time to build."""
        return {"fit": TrainingCLI.subcommands()["fit"]}

    def before_instantiate_classes(self) -> None:
        """Apply the settings that all runs of a study share."""
        self.apply_study_settings()
        super().before_instantiate_classes()

    def find_own_checkpoint(self) -> None:
        """Begin where the study says."""

    def apply_study_settings(self) -> None:
        """Set what a study decides for its runs, as config values: a command line could parse the text differently."""
        trainer = self.own.trainer
        names = {"save_dir": str(self.folder.parent), "name": "", "version": self.folder.name}
        trainer.logger = _class(Curves, **names)
        trainer.callbacks = [*own_callbacks(trainer.callbacks), _class(Measure)]
        self.own.files = Namespace(weights="weights.pth", onnx=None, dynamic=None, static=None)
        self.own.baseline = None  # a study has its own
        trainer.enable_checkpointing = self.keeps_checkpoints
        self.own.quiet, trainer.enable_progress_bar = True, False
        trainer.devices = 1

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Leave out what a study logs itself, for all its runs together, or shows on its page.

        A cluster decides when a run that keeps checkpoints stops.
        """
        trainer = super().instantiate_trainer(**kwargs)
        left_out = (LogHyperparameters, LogTestPictures, *([SaveOnInterrupt] if self.keeps_checkpoints else []))
        own = [call for call in trainer.callbacks if not isinstance(call, left_out)]  # type: ignore[attr-defined]
        trainer.callbacks[:] = own  # type: ignore[attr-defined]
        return trainer


class TuningFit(StudyFit):
    """A run that helps to choose a setting: it is measured on the validation images, and not on the test images."""

    def fit(self, model: Task, **kwargs: Any) -> None:
        """Train, then evaluate the validation split once more: the end of training may have changed the weights."""
        self.trainer.fit(model, weights_only=True, **kwargs)
        self.trainer.validate(model, datamodule=self.datamodule, verbose=False)
        callbacks_of(self.trainer, Measure)[0].take_validation(self.trainer, self.datamodule.num_classes)


class BuiltOnly(StudyFit):
    """Builds data, networks and trainer as a run would, and runs nothing: errors are reported at once.

    Args:
        learns: Whether the run learns from the study's teacher, which is built without weights until it is trained.
            Others are found as ``fit`` finds them.
        options: ``StudyFit``'s.

    Attributes:
        parsed: The resolved config as requested, as plain values, with the teachers that were found.
        found: The weights of those teachers, by the option that names them.
    """

    def __init__(self, *args: Any, learns: bool, **options: Any) -> None:
        self.learns = learns
        self.found: dict[str, Path] = {}
        super().__init__(*args, **options)

    def before_instantiate_classes(self) -> None:
        """Keep the requested config; do not require the weights of a teacher that the study trains later."""
        if self.own.ckpt_path is not None:
            raise UserError("a study's runs begin at their first step; leave ckpt_path out of its configs.")
        check_trainer(self.own.trainer)
        self.learns &= [part.name for part in teachers_of(self.own)] == ["Teacher"]
        for part in teachers_of(self.own):
            if not self.learns and part.settings.weights is None:
                self._find(part)
        self.parsed = plain(self._parser("fit"), self.own)
        self.apply_study_settings()
        if self.learns:
            teachers_of(self.own)[0].settings.weights = None

    def _find(self, part: TeacherPart) -> None:
        found = find(teacher_run(self._parser("fit"), self.own, part), self.logs)
        if found is not None:
            self.found[f"{part.option}.weights"] = found
            part.settings.weights = str(found)

    def _run_subcommand(self, subcommand: str) -> None:
        """Run nothing."""

    def data_source(self) -> ImageDataModule:
        """Build the data source once more, without its images."""
        data: ImageDataModule = self._parser("fit").instantiate(Namespace(data=self.own.data)).data
        return data


def _class(kind: type[Any], **arguments: Any) -> Namespace:
    """Return the config of a class."""
    return Namespace(class_path=f"{kind.__module__}.{kind.__qualname__}", init_args=Namespace(**arguments))
