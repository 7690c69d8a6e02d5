import platform
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from tiny import TinyDataModule, TinyNetwork

from kd_lightning.machine.host_memory import return_freed_memory
from kd_lightning.tasks import Classifier

resource = pytest.importorskip("resource", reason="only Unix counts page faults")

TENSOR = 64 * 2**20  # bytes


def in_a_process_of_its_own(check: Callable[[], None]) -> None:
    """Run a check on a process's first thread: the others, on which tests may run, get their memory in another way."""
    process = get_context("spawn").Process(target=check)
    process.start()
    process.join()
    assert process.exitcode == 0  # what failed is printed


def faults_of_large_tensors() -> int:
    """Count the fresh pages that the kernel hands out for tensors of 64 MB, of which one lives at a time."""
    torch.zeros(TENSOR // 4)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.zeros(TENSOR // 4).fill_(1)
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)


def resident() -> int:
    """Return the bytes that this process holds in memory."""
    pages, page = int(Path("/proc/self/statm").read_text().split()[1]), int(resource.getpagesize())
    return pages * page


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep memory")
def test_memory_is_kept_while_a_cpu_trains_and_returned_afterwards() -> None:
    in_a_process_of_its_own(check_training)


class Look(Callback):
    faults = -1
    kept = 0

    def on_train_epoch_end(self, *_: object) -> None:
        self.faults, self.kept = faults_of_large_tensors(), resident()


def check_training() -> None:
    return_freed_memory()
    fresh, look = faults_of_large_tensors(), Look()
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        callbacks=[look],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Classifier(TinyNetwork()), datamodule=TinyDataModule())
    assert 0 <= look.faults < fresh / 2
    assert resident() < look.kept - TENSOR / 2
