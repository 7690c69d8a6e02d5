"""One LightningCLI over this project's tasks and data."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.seed import isolate_rng

import kd_lightning.callbacks
import kd_lightning.data.augment
import kd_lightning.losses
import kd_lightning.networks
import kd_lightning.tasks.muon
import kd_lightning.tasks.sam
import kd_lightning.tasks.schedules
import kd_lightning.teacher  # noqa: F401  bare class names are those of imported classes
from kd_lightning.callbacks import RunSummary, SaveOnInterrupt, SaveWeights
from kd_lightning.callbacks.measure_baseline import MeasureBaseline
from kd_lightning.callbacks.measured_weights import MeasuredWeights
from kd_lightning.callbacks.run_folder import RunFolder
from kd_lightning.callbacks.trained import images_tested, images_validated
from kd_lightning.callbacks.trainer_callbacks import callbacks_of
from kd_lightning.data.base import ImageDataModule
from kd_lightning.errors import UserError
from kd_lightning.export import GateError
from kd_lightning.machine import slurm
from kd_lightning.machine.terminal import PROGRAM, quiet_restored, set_quiet
from kd_lightning.networks.read_back import ReadBackError
from kd_lightning.tasks import Task
from kd_lightning.training.checkpoint_files import write_atomic_checkpoints
from kd_lightning.training.checks import check_against_data, check_built, check_config, teachers_of
from kd_lightning.training.config_files import first_config, own_run, run_name
from kd_lightning.training.console import measured_text, print_rank_zero
from kd_lightning.training.dry_run import EndAtFirstStep, dry_run
from kd_lightning.training.first import BASELINE_HELP, HELP, find_or_train, require_teachers
from kd_lightning.training.mistakes import explained
from kd_lightning.training.next_steps import next_steps
from kd_lightning.training.parser import Parser, plain
from kd_lightning.training.requeued import checkpoint_to_resume, record_of, refuse_foreign
from kd_lightning.training.run_files import RunFiles
from kd_lightning.training.save_config import SaveConfig
from kd_lightning.training.suggest import FROM_DATA
from kd_lightning.training.sync_batch_norm import with_sync
from kd_lightning.training.trainer import DEFAULTS, LOGS, fit_callbacks, run_logger, with_epoch_lines
from kd_lightning.training.which_checkpoint import choose_checkpoint


class TrainingCLI(LightningCLI):
    """``fit``, ``validate`` and ``test``."""

    datamodule: ImageDataModule
    model: Task
    baseline: Path | None = None
    record: Path | None = None
    is_first_run = False
    has_own_options = False

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Offer Lightning's commands but for ``predict``, which is our own."""
        return {name: {*skip, "weights_only"} for name, skip in LightningCLI.subcommands().items() if name != "predict"}

    def _parse_ckpt_path(self) -> None:
        """Ignore the checkpoint's hyperparameters, which Lightning would write into the config."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Name the run's files, and link the networks' input and output sizes to the data."""
        parser.add_class_arguments(RunFiles, "files")
        parser.add_argument("--baseline", type=str | None, default=None, help=BASELINE_HELP)
        parser.add_argument("--quiet", action="store_true", help="Print only the summary, besides warnings.")
        for network in ("network", "teacher.init_args.network"):
            for name in ("num_classes", "in_channels", "image_size"):
                target = f"model.init_args.{network}.init_args.{name}"
                parser.link_arguments(f"data.{name}", target, apply_on="instantiate")

    @property
    def own(self) -> Namespace:
        """The config of the command that runs."""
        own: Namespace = self.config.get(str(self.subcommand), self.config)
        return own

    @property
    def logs(self) -> Path:
        """The folder of all runs."""
        return Path(self.own.trainer.default_root_dir or ".") / LOGS

    @property
    def name(self) -> str:
        """The name under which this run is kept: its config's, or its task's."""
        config = first_config(self.own)
        return self.own.model.class_path.rpartition(".")[2] if config is None else run_name(config)

    @property
    def runs(self) -> Path:
        """The folder of the config's runs; a run's own config means only that run."""
        config = first_config(self.own)
        return (config and own_run(config)) or self.logs / self.name

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the command line; take a resolved config, such as that of a missing teacher, as it is."""
        if isinstance(args, Namespace):
            self.config, self.is_first_run = args, True
        else:
            super().parse_arguments(parser, args)
            self.has_own_options = any(word.startswith(("--model", "--data", "--seed")) for word in args)

    def before_instantiate_classes(self) -> None:
        """Check the config, and set the files of the checkpoint, the teacher and the baseline."""
        set_quiet(self.own.quiet)
        refuse_foreign(Path(self.own.trainer.default_root_dir or "."))
        self.find_own_checkpoint()
        self.measured_weights = choose_checkpoint(self.own, str(self.subcommand), self.runs)
        check_config(self.own, str(self.subcommand))
        if self.subcommand != "fit" or self.own.ckpt_path is not None:  # a checkpoint's teacher exists
            require_teachers(self._parser("fit"), self.own, self.logs)
        if self.subcommand == "fit":
            with isolate_rng(include_cuda=False):  # as if no other run came first
                found = find_or_train(self._parser("fit"), self.own, self.logs, self.check_first_step, train)
            for part in teachers_of(self.own):
                part.settings.weights = str(found[part.name]) if part.name in found else part.settings.weights
            self.baseline = found.get("Baseline")

    def find_own_checkpoint(self) -> None:
        """Go on from this run's own checkpoint, where SLURM runs its job again."""
        if self.subcommand == "fit" and slurm.job_id() is not None and self.own.ckpt_path is None:
            self.record = record_of(self.logs, plain(self._parser("fit"), self.own))
            found = checkpoint_to_resume(self.record)
            self.own.ckpt_path = None if found is None else str(found)

    def check_first_step(self) -> None:
        """Raise what this run would raise up to its first step, before another run is trained for it.

        It is built again afterwards: a task of the user's own may read the teacher's weights when it is built.
        """
        self.instantiate_classes()
        dry_run(self.trainer, self.model, self.datamodule, EndAtFirstStep())
        del self.trainer, self.model, self.datamodule, self.config_init

    def instantiate_classes(self) -> None:
        """Build data, model and trainer, and check whether they fit the config."""
        self.set_sizes_of_members()
        super().instantiate_classes()
        check_built(self.own, self.trainer, self.datamodule)

    def set_sizes_of_members(self) -> None:
        """Set the networks' sizes of several teachers, whose names no link of the parser knows."""
        members = [part.settings.network for part in teachers_of(self.own) if part.name != "Teacher"]
        if members:
            data = self._parser(self.subcommand).instantiate(Namespace(data=self.own.data)).data
            check_against_data(self.own.model, data)
            for network in members:
                given = network.get("init_args") or Namespace()
                given.update(Namespace({name: getattr(data, name) for name in FROM_DATA if name in given}))

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the trainer with a TensorBoard folder named after the config, and the callbacks of every fit."""
        trainer = self.config_init[str(self.subcommand)].trainer
        if trainer.logger in (None, True):
            kwargs["logger"] = run_logger(self.logs, self.name, with_test=self.subcommand != "fit")
        folder = RunFolder(self.logs / self.name)
        own = trainer.callbacks or []
        kwargs["callbacks"] = [folder, *own, SaveOnInterrupt()]
        if self.subcommand == "fit":
            keeps, files = trainer.enable_checkpointing is not False, self.config_init[str(self.subcommand)].files
            baseline = [] if self.baseline is None else [MeasureBaseline(str(self.baseline))]
            kwargs["callbacks"] = fit_callbacks(folder, own, files, keeps, [*baseline, RunSummary(self.name)])
        kwargs |= with_sync(vars(trainer))
        kwargs |= with_epoch_lines(kwargs["callbacks"], own, trainer.enable_progress_bar is not False, self.own.quiet)
        built = super().instantiate_trainer(**kwargs)
        for callback in callbacks_of(built, SaveOnInterrupt):
            callback.record = self.record
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
        self.print_result(callbacks_of(self.trainer, RunSummary)[0].text)
        if failed is not None:
            raise failed
        if not (self.is_first_run or self.trainer.fast_dev_run):  # type: ignore[attr-defined]
            print_rank_zero(next_steps(self.trainer, None if self.has_own_options else first_config(self.own)))

    def validate(self, model: Task, **kwargs: Any) -> None:
        """Measure on the validation images."""
        self.load_measured_weights()
        if not self.datamodule.has_val:
            raise UserError("there are no validation images; set --data.val_size above 0, or use test.")
        results = self.trainer.validate(model, weights_only=True, **{**kwargs, "verbose": False})
        used, images = images_validated(self.trainer), len(self.datamodule.val_rows()[1])
        self.print_result(measured_text(results if kwargs["verbose"] else [], used, images))

    def test(self, model: Task, **kwargs: Any) -> None:
        """Measure on the test images."""
        self.load_measured_weights()
        results = self.trainer.test(model, weights_only=True, **{**kwargs, "verbose": False})
        used, images = images_tested(self.trainer), len(self.datamodule.test_rows()[1])
        self.print_result(measured_text(results if kwargs["verbose"] else [], used, images))

    def print_result(self, text: str) -> None:
        """Print what a quiet run prints, too, unless it is only the teacher or the baseline of another one."""
        set_quiet(self.own.quiet and self.is_first_run)
        print_rank_zero(text.removesuffix("\n"))
        set_quiet(self.own.quiet)

    def load_measured_weights(self) -> None:
        """Measure a file that holds only weights, where one was given."""
        if self.measured_weights is not None:
            self.trainer.callbacks.insert(0, MeasuredWeights(self.measured_weights))  # type: ignore[attr-defined]


def run(args: Sequence[str] | Namespace, kind: type[TrainingCLI] = TrainingCLI, **options: Any) -> TrainingCLI:
    """Run a command and return it with its trainer, model and datamodule.

    Args:
        args: Its arguments, or its resolved config.
        kind: The command line's class.
        options: Its further options.

    Raises:
        UserError: The user can fix it.
        StoppedByUser: The user stopped it.
    """
    if options.get("run", True):
        options |= {"parser_kwargs": {"prog": PROGRAM, "fit": {"description": HELP}}}
    with explained(), quiet_restored():
        return kind(
            Task,
            ImageDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            parser_class=Parser,
            save_config_callback=SaveConfig,
            save_config_kwargs={"save_to_log_dir": False},
            trainer_defaults=DEFAULTS,
            seed_everything_default=0,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=args if isinstance(args, Namespace) else list(args),
            **options,
        )


def train(config: Namespace) -> Path:
    """Run ``fit`` with a resolved config and return the weights file that it wrote.

    Raises:
        UserError: It wrote none.
    """
    done = run(Namespace(subcommand="fit", fit=config))
    files = [path for callback in callbacks_of(done.trainer, SaveWeights) for path in callback.files]
    if not files:
        raise UserError(f"the run of {done.name} wrote no weights; let it train whole steps, without fast_dev_run.")
    return files[0]
