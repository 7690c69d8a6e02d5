"""The hyperparameters of a run and its final metrics, for every logger."""

from typing import TYPE_CHECKING, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from kd_lightning.callbacks.hyperparameters import Value, hyperparameters
from kd_lightning.export import GateError
from kd_lightning.networks.read_back import ReadBackError

if TYPE_CHECKING:
    from kd_lightning.tasks import Task


class LogHyperparameters(Callback):
    """Log what a run is trained with: to most loggers at its start, to TensorBoard's HPARAMS with its final metrics.

    TensorBoard reads a run's HPARAMS once, so it is written when the test is done, or when the fit is stopped.
    The test's numbers are columns beside the options: as metrics they would have to be curves, of one point each.
    """

    def __init__(self) -> None:
        self._values: dict[str, Value] = {}
        self._curves: dict[str, float] = {}
        self._step = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log to the loggers that show them while the run trains."""
        self._collect(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the metrics of the epoch before."""
        self._keep_curves(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the last metrics of the fit, which its test replaces."""
        self._keep_curves(trainer)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log where nothing was left to train, too."""
        self._collect(trainer, pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Fill the HPARAMS tab of a fit that is tested."""
        metrics = trainer.callback_metrics.items()
        self._fill_tab(trainer, {name: float(value) for name, value in metrics if name.startswith("test/")})

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Fill the tab of a stopped fit; one whose file is refused is still tested."""
        if not isinstance(exception, GateError | ReadBackError):
            self._fill_tab(trainer, {})

    def _collect(self, trainer: Trainer, task: LightningModule) -> None:
        if self._values:
            return
        self._values = hyperparameters(cast("Task", task))
        for logger in trainer.loggers:
            if not isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams(self._values)

    def _keep_curves(self, trainer: Trainer) -> None:
        metrics = trainer.callback_metrics.items()
        found = {name: float(value) for name, value in metrics if name.startswith(("train/", "val/"))}
        if found:
            self._curves, self._step = found, trainer.fit_loop.epoch_loop._batches_that_stepped - 1

    def _fill_tab(self, trainer: Trainer, tested: dict[str, float]) -> None:
        values, self._values = self._values, {}
        for logger in trainer.loggers:
            if values and isinstance(logger, TensorBoardLogger):
                logger.log_hyperparams({**tested, **values}, self._curves or tested, self._step)
