"""TensorBoard's curves: what has more than one point."""

from collections.abc import Mapping

from lightning.pytorch.loggers import TensorBoardLogger


class Curves(TensorBoardLogger):
    """Lightning's logger for TensorBoard without a curve of the epochs' numbers.

    Args:
        save_dir: The folder of all runs.
        name: The folder of runs in it, with `/` between its parts.
        version: The run's folder in that one; ``version_N`` with the next number where it is not given.
        with_test: Whether the metrics of a test, one point each, are curves; those of a fit are in its HPARAMS.
    """

    def __init__(self, save_dir: str, name: str, version: str | None = None, with_test: bool = False) -> None:
        super().__init__(save_dir, name, version, default_hp_metric=False)
        self._with_test = with_test

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add a point to each curve."""
        shown = {name: value for name, value in metrics.items() if name != "epoch"}
        if not self._with_test:
            shown = {name: value for name, value in shown.items() if not name.startswith("test/")}
        super().log_metrics(shown, step)
