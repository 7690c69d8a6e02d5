"""What the training commands print."""

import logging
import re
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from lightning.pytorch.utilities.rank_zero import rank_zero_only

from kd_lightning.files import disk_full_message
from kd_lightning.machine.terminal import print_fitted
from kd_lightning.wording import shown_lines

QUIET_WARNINGS = (
    r"Grad strides do not match bucket view strides",  # "not an error": 1x1 convolutions on CPUs
    r"LightningCLI's args parameter",  # our front end passes the arguments on
    r"The `srun` command is available",
    r"You defined a `validation_step` but have no `val_dataloader`",  # val_size: 0
    r"Checkpoint directory .* exists and is not empty",  # a run's own last.ckpt
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning's own call into torch
    r"The number of training batches \(\d+\) is smaller than the logging interval",  # curves have a point an epoch
    r"Be aware that when using `ckpt_path`",  # a test needs no callbacks of the fit
    r"Total length of `list` across ranks is zero",  # val_size: 0
    r"You requested to overfit but enabled",  # then every epoch has the batches of the first
    r"The dirpath has changed from",  # a resumed run is a run of its own
    r"You're using the WeightAveraging callback, but loading",  # the average is measured, as intended
)

RANK = re.compile(r"^\[rank: \d+\] ")
"""What Lightning writes before a message of one of several processes."""


@rank_zero_only
def print_rank_zero(text: str) -> None:
    """Print a text that fits the terminal, only in the first of several processes; nothing where quiet."""
    print_fitted(shown_lines(text))


def measured_text(results: Sequence[Mapping[str, float]], used: int, images: int) -> str:
    """Return what Lightning's ``test`` or ``validate`` measured, a line a metric; shares of images in percent.

    Args:
        results: What they returned.
        used: The images that were measured.
        images: The images that there are.
    """
    metrics = {name: value for result in results for name, value in result.items()}
    width = max(map(len, metrics), default=0)
    shares = ("accuracy", "agreement")
    lines = [
        f"{name:{width}}  {f'{100 * value:.2f} %' if name.endswith(shares) else f'{value:.4f}'}"
        for name, value in metrics.items()
    ]
    return "\n".join([*lines, *([f"Measured on {used:,} of {images:,} images."] if 0 < used < images else [])])


@contextmanager
def full_disk_printed_once() -> Iterator[None]:
    """Print no traceback of a thread, such as TensorBoard's, that a full disk stops: the main thread raises it."""
    before = threading.excepthook

    def report(failure: threading.ExceptHookArgs) -> None:
        if failure.exc_value is None or disk_full_message(failure.exc_value) is None:
            before(failure)

    threading.excepthook = report
    try:
        yield
    finally:
        threading.excepthook = before


def quieten() -> None:
    """Hide Lightning's messages that are not about the run."""
    for pattern in QUIET_WARNINGS:
        warnings.filterwarnings("ignore", pattern)
    for name in (
        "lightning.pytorch.utilities.rank_zero",
        "lightning.fabric.utilities.rank_zero",
        "lightning.fabric.utilities.seed",
        "lightning.pytorch.trainer.connectors.signal_connector",
        "lightning.fabric.utilities.distributed",
    ):
        logging.getLogger(name).addFilter(_is_about_the_run)


def _is_about_the_run(record: logging.LogRecord) -> bool:
    message = RANK.sub("", record.getMessage())
    return not message.startswith(
        (
            "GPU available",
            "TPU available",
            "HPU available",
            "Seed set",
            "Initializing distributed",
            "distributed_backend",
            "Loading `train_dataloader`",
            "💡 Tip",
            "-----",
            "`Trainer.fit` stopped",
            "LOCAL_RANK",
            "Loaded model weights from",
            "Restored all states",
            "Restoring states",
            "Running in `fast_dev_run`",
            "SLURM auto-requeueing enabled",  # our own handler comes first
        )
    )
