"""A fit in a job that SLURM runs again."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from training_example import NO_EXPORT, TINY

from kd_lightning.cli import main
from kd_lightning.networks.weights import read_weights

COMMAND = ["fit", "--config=student.yaml", *TINY, NO_EXPORT, "--trainer.callbacks+=test_requeued.TimeIsOver"]
RUNS = Path("lightning_logs/student")


class TimeIsOver(Callback):
    """Sends SLURM's signal in the middle of the second epoch of a job's first start."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if trainer.global_step == 6 and os.environ.get("SLURM_RESTART_COUNT") == "0":
            signal.raise_signal(signal.SIGUSR1)


@pytest.fixture
def job(temp_folder: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Be the first start of job 12 of a SLURM that accepts what it is told."""
    Path("scontrol").write_text("#!/bin/sh\necho $* >>asked\n")
    Path("scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{temp_folder}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "0")
    return monkeypatch


def weights(version: int) -> dict[str, torch.Tensor]:
    return read_weights(RUNS / f"version_{version}" / "NNLight.pth")[0]


def test_a_job_that_runs_again_goes_on_as_if_it_had_not_been_stopped(
    job: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(COMMAND) == 128 + signal.SIGUSR1
    assert "Stopped by SLURM, which runs job 12 again" in capfd.readouterr().out
    assert Path("asked").read_text() == "requeue 12\n"
    job.setenv("SLURM_RESTART_COUNT", "1")
    assert main(COMMAND) == 0
    found = (RUNS / "version_0/checkpoints/last.ckpt").absolute()
    assert f"Checkpoint: {found}" in capfd.readouterr().out
    assert (
        main([*COMMAND, "--trainer.log_every_n_steps=9"]) == 0
    )  # another run of the same job begins at its first step
    assert "Checkpoint:" not in capfd.readouterr().out
    resumed, undisturbed = weights(1), weights(2)
    assert all(torch.equal(resumed[name], undisturbed[name]) for name in undisturbed)


def test_a_checkpoint_that_lightning_would_start_with_is_refused(
    job: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("hpc_ckpt_1.ckpt").touch()
    assert main(COMMAND) == 2
    assert "hpc_ckpt_1.ckpt was written by Lightning when SLURM stopped a program" in capsys.readouterr().err
