"""``benchmark``: how fast a config trains on this machine, compared with the usual loop of tutorials."""

from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Callback, Trainer
from lightning.pytorch.accelerators import CUDAAccelerator
from lightning.pytorch.cli import LightningArgumentParser

from kd_lightning.benchmark.measure import Bench, measure, measure_processes
from kd_lightning.benchmark.report import to_plain, to_text
from kd_lightning.errors import UserError
from kd_lightning.fast.callback import TrainAhead
from kd_lightning.files import atomic_write
from kd_lightning.machine import stopping
from kd_lightning.machine.cpu import use_own_cores
from kd_lightning.strict_json import strict_json
from kd_lightning.training.checks import teacher_settings
from kd_lightning.training.cli import TrainingCLI, run
from kd_lightning.training.console import quieten
from kd_lightning.training.mistakes import explained

KEPT = ("accelerator", "precision", "gradient_clip_val", "gradient_clip_algorithm", "accumulate_grad_batches")
"""Trainer options that a benchmark takes over from a config."""


class BenchmarkCLI(TrainingCLI):
    """Builds task and data of a config without loading or training anything."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the benchmark's own options."""
        super().add_arguments_to_parser(parser)
        parser.add_argument("--output", type=str | None, default=None, help="The JSON file to write.")
        parser.add_argument(
            "--steps", type=int | None, default=None, help="Steps of a round, 1 or more; 20 on a CPU, 400 on a GPU."
        )
        parser.add_argument("--rounds", type=int, default=5, help="Rounds, 1 or more; the loops take turns.")
        parser.add_argument("--workers", type=int, default=2, help="Loading processes of the usual loop.")
        parser.add_argument("--images", type=int, default=50_000, help="Training images of an epoch.")

    def before_instantiate_classes(self) -> None:
        """Leave the teacher untrained: its weights do not change the time."""
        for name, minimum in (("steps", 1), ("rounds", 1), ("workers", 0), ("images", 1)):
            if self.config[name] is not None and self.config[name] < minimum:
                raise UserError(f"--{name} is {self.config[name]}, but it must be {minimum} or more.")
        teacher = teacher_settings(self.config)
        if teacher is not None:
            teacher.weights = None

    def instantiate_trainer(self, callbacks: Sequence[Callback] = (), **kwargs: Any) -> Trainer:
        """Build a trainer, on one device unless ``devices`` is given, that prints and writes nothing."""
        settings = self.config_init.trainer
        with explained():
            return Trainer(
                **{name: settings[name] for name in KEPT},
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                callbacks=[TrainAhead(), *callbacks],
                **{"devices": 1, "limit_val_batches": 0, **kwargs},
            )

    def bench(self) -> Bench:
        """Return the config's run, to measure."""
        options, data, epochs = self.config, self.datamodule, self.config.trainer.max_epochs
        several = {name: options.trainer[name] for name in ("devices", "strategy")}
        on_gpu = isinstance(self.trainer.accelerator, CUDAAccelerator)
        return Bench(
            name=self.name,
            task=self.model,
            data=data,
            make_trainer=self.instantiate_trainer,
            images=options.images,
            val_images=round(data.val_size * options.images if data.val_size < 1 else data.val_size),
            epochs=None if epochs == -1 else epochs,
            steps=options.steps or (400 if on_gpu else 20),
            workers=options.workers,
            several=several,
            processes=self.instantiate_trainer(**several).world_size,
        )


def main(args: Sequence[str]) -> int:
    """Measure and print; ``--output`` writes the numbers."""
    quieten()
    use_own_cores()
    cli = run(args[1:], BenchmarkCLI, run=False)
    assert isinstance(cli, BenchmarkCLI)
    bench = cli.bench()
    if not stopping.is_rank_zero():  # Lightning started it beside the first process, which measures the rest
        measure_processes(bench, cli.config.rounds)
        return 0
    result = to_plain(bench, measure(bench, cli.config.rounds))
    print(to_text(result))
    if cli.config.output is not None:
        with atomic_write(cli.config.output) as path:
            path.write_text(strict_json(result, indent=2) + "\n", encoding="utf-8")
    return 0
