"""One LightningCLI over this project's tasks and data."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger

import kd_lightning.callbacks
import kd_lightning.data.augment
import kd_lightning.losses
import kd_lightning.networks
import kd_lightning.tasks.schedules
import kd_lightning.teacher  # noqa: F401  bare class names are those of imported classes
from kd_lightning.callbacks import LogContactSheet, RunSummary, SaveOnInterrupt, SaveWeights
from kd_lightning.callbacks.measure_baseline import MeasureBaseline
from kd_lightning.callbacks.measured_weights import MeasuredWeights
from kd_lightning.callbacks.run_folder import RunFolder
from kd_lightning.callbacks.trained import images_tested, images_validated
from kd_lightning.callbacks.trainer_callbacks import callbacks_of
from kd_lightning.data.base import ImageDataModule
from kd_lightning.errors import UserError
from kd_lightning.export import GateError
from kd_lightning.fast.callback import TrainAhead
from kd_lightning.networks.read_back import ReadBackError
from kd_lightning.tasks import Task
from kd_lightning.training import baseline_first, teacher_first
from kd_lightning.training.checkpoint_files import write_atomic_checkpoints
from kd_lightning.training.config_files import own_run, run_name
from kd_lightning.training.console import print_rank_zero
from kd_lightning.training.dry_run import EndAtFirstStep, dry_run
from kd_lightning.training.mistakes import explained
from kd_lightning.training.parser import Parser
from kd_lightning.training.run_checks import (
    check_against_data,
    check_processes,
    check_work,
    print_dropped_settings,
    set_by_hand,
)
from kd_lightning.training.run_files import RunFiles, checkpoints
from kd_lightning.training.save_config import SaveConfig
from kd_lightning.training.teacher_checks import check_teacher
from kd_lightning.training.which_checkpoint import choose_checkpoint

LOGS = "lightning_logs"


class TrainingCLI(LightningCLI):
    """``fit``, ``validate`` and ``test``."""

    datamodule: ImageDataModule
    model: Task
    baseline: tuple[Path, ...] = ()

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Offer Lightning's commands but for ``predict``, which is our own."""
        return {name: {*skip, "weights_only"} for name, skip in LightningCLI.subcommands().items() if name != "predict"}

    def _parse_ckpt_path(self) -> None:
        """Ignore the checkpoint's hyperparameters, which Lightning would write into the config."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Name the run's files, and link the networks' input and output sizes to the data."""
        parser.add_class_arguments(RunFiles, "files")
        parser.add_argument("--baseline", type=str | None, default=None, help=baseline_first.HELP)
        for network in ("network", "teacher.init_args.network"):
            for name in ("num_classes", "in_channels", "image_size"):
                target = f"model.init_args.{network}.init_args.{name}"
                parser.link_arguments(f"data.{name}", target, apply_on="instantiate")

    @property
    def own(self) -> Namespace:
        """The config of the command that runs."""
        own: Namespace = self.config[str(self.subcommand)]
        return own

    @property
    def logs(self) -> Path:
        """The folder of all runs."""
        return Path(self.own.trainer.default_root_dir or ".") / LOGS

    @property
    def name(self) -> str:
        """The name under which this run is kept: its config's, or its task's."""
        configs = self.own.get("config") or []
        return run_name(Path(configs[0].relative)) if configs else self.own.model.class_path.rpartition(".")[2]

    @property
    def runs(self) -> Path:
        """The folder of the config's runs; a run's own config means only that run."""
        configs = self.own.get("config") or []
        own = own_run(Path(configs[0].relative)) if configs else None
        return self.logs / self.name if own is None else own

    def before_instantiate_classes(self) -> None:
        """Set the files of the checkpoint, the teacher and the baseline; ``fit`` trains the last two first."""
        self.measured_weights = choose_checkpoint(self.own, str(self.subcommand), self.runs)
        check_work(self.own, str(self.subcommand))
        print_dropped_settings(self.own)
        if by_hand := set_by_hand(self.own.model):
            check_against_data(by_hand, self.data_source())
        if self.subcommand == "fit":
            baseline_first.check_baseline(self._parser("fit"), self.own)
        settings = teacher_first.teacher_settings(self.own)
        if settings is not None:
            settings.weights = self.teacher_weights(settings)
            if self.subcommand == "fit" and settings.weights is not None:
                teacher_first.print_weights("Teacher", Path(settings.weights))
        if self.subcommand == "fit" and self.own.baseline is not None and not self.own.trainer.fast_dev_run:
            self.baseline = (baseline_first.find_or_train(self._parser("fit"), self.own, self.logs, fit),)

    def teacher_weights(self, settings: Namespace) -> str | None:
        """Return the teacher's file, trained first where ``fit`` may; ``None``: an untrained one, in a smoke test."""
        parser = self._parser("fit")
        if self.subcommand != "fit" or self.own.ckpt_path is not None:  # a checkpoint's teacher exists
            return str(teacher_first.require_teacher(parser, self.own, self.logs))
        found = teacher_first.find_teacher(parser, self.own, self.logs)
        if found is not None:
            return str(found)
        changes = teacher_first.overrides(parser, self.own)
        check_teacher(settings, teacher_first.resolved(parser, settings.config, changes))
        if self.own.trainer.fast_dev_run:
            print_rank_zero("There is no teacher yet; the smoke test takes an untrained one.")
            return None
        self.check_first(settings)
        trained = teacher_first.train_teacher(settings, self.logs, changes, fit)
        seed_everything(self.own.seed_everything, verbose=False)  # as if no other run came first
        return str(trained)

    def check_first(self, settings: Namespace) -> None:
        """Raise what this run would raise before its teacher is trained, by a dry run with an untrained one."""
        target, settings.weights = settings.weights, None
        self.instantiate_classes()
        dry_run(self.trainer, self.model, self.datamodule, EndAtFirstStep())
        del self.trainer, self.model, self.datamodule
        settings.weights = target

    def data_source(self) -> ImageDataModule:
        """Build only the data source, which knows its image size and classes before it loads the images."""
        data: ImageDataModule = self._parser(self.subcommand).instantiate(Namespace(data=self.own.data)).data
        return data

    def instantiate_classes(self) -> None:
        """Build data, model and trainer, and check the processes that train together."""
        super().instantiate_classes()
        check_processes(self.trainer)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer with a TensorBoard folder named after the config, and the callbacks of every fit."""
        trainer = self.config_init[str(self.subcommand)].trainer
        if trainer.logger in (None, True):
            kwargs["logger"] = TensorBoardLogger(str(self.logs.parent), f"{LOGS}/{self.name}", default_hp_metric=False)
        folder = RunFolder(self.logs / self.name)
        own = trainer.callbacks or []
        kwargs["callbacks"] = [folder, *own, SaveOnInterrupt()]
        if self.subcommand == "fit":
            validates = self.datamodule.has_val and trainer.limit_val_batches != 0
            kept = [] if trainer.enable_checkpointing is False else checkpoints(validates)
            files = self.config_init[str(self.subcommand)].files.callbacks(own)
            # SaveOnInterrupt comes after callbacks that average weights; RunSummary lists the files of the others
            kwargs["callbacks"] = [folder, LogContactSheet(), *kept, *files, *own, SaveOnInterrupt(), TrainAhead()]
            kwargs["callbacks"] += [*(MeasureBaseline(str(path)) for path in self.baseline), RunSummary(self.name)]
        built = super().instantiate_trainer(**kwargs)
        folder.give_versions(built.loggers)
        write_atomic_checkpoints(built)
        return built

    def fit(self, model: Task, **kwargs: Any) -> None:
        """Train, then evaluate the test split once; a refused file is reported when all the rest is done."""
        failed: UserError | None = None
        try:
            self.trainer.fit(model, weights_only=True, **kwargs)
        except (GateError, ReadBackError) as error:
            failed = error
        self.trainer.test(model, datamodule=self.datamodule, verbose=False)
        print_rank_zero(callbacks_of(self.trainer, RunSummary)[0].text)
        if failed is not None:
            raise failed

    def validate(self, model: Task, **kwargs: Any) -> None:
        """Measure on the validation images."""
        self.load_measured_weights()
        if not self.datamodule.has_val:
            raise UserError("there are no validation images; set --data.val_size above 0, or use test.")
        self.trainer.validate(model, weights_only=True, **kwargs)
        self.print_if_partial(images_validated(self.trainer), len(self.datamodule.val_rows()[1]))

    def test(self, model: Task, **kwargs: Any) -> None:
        """Measure on the test images."""
        self.load_measured_weights()
        self.trainer.test(model, weights_only=True, **kwargs)
        self.print_if_partial(images_tested(self.trainer), len(self.datamodule.test_rows()[1]))

    def print_if_partial(self, used: int, images: int) -> None:
        """Print a line where not all images were measured."""
        if 0 < used < images:
            print_rank_zero(f"Measured on {used:,} of {images:,} images.")

    def load_measured_weights(self) -> None:
        """Measure a file that holds only weights, where one was given."""
        if self.measured_weights is not None:
            self.trainer.callbacks.insert(0, MeasuredWeights(self.measured_weights))  # type: ignore[attr-defined]


def run(args: Sequence[str], kind: type[TrainingCLI] = TrainingCLI, **options: Any) -> TrainingCLI:
    """Run a command and return it with its trainer, model and datamodule.

    Raises:
        UserError: The user can fix it.
        StoppedByUser: The user stopped it.
    """
    if options.get("run", True):
        options |= {"parser_kwargs": {"fit": {"description": teacher_first.HELP}}}
    with explained():
        return kind(
            Task,
            ImageDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            parser_class=Parser,
            save_config_callback=SaveConfig,
            save_config_kwargs={"save_to_log_dir": False},
            trainer_defaults={"devices": 1, "num_sanity_val_steps": 0, "enable_model_summary": False},
            seed_everything_default=0,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=list(args),
            **options,
        )


def fit(args: Sequence[str]) -> Path:
    """Run ``fit`` and return the weights file that it wrote.

    Raises:
        UserError: It wrote none, as a smoke test does.
    """
    files = [path for callback in callbacks_of(run(args).trainer, SaveWeights) for path in callback.files]
    if not files:
        raise UserError("the teacher's run wrote no weights; let it train whole steps, without fast_dev_run.")
    return files[0]
