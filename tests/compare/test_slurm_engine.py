"""The SLURM engine: what it submits, finds again, and reports of jobs that ended; SLURM itself is simulated."""

import json
from collections.abc import Sequence
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from kd_lightning.commands.compare import main
from kd_lightning.compare import worker
from kd_lightning.compare.engines import slurm, squeue
from kd_lightning.compare.engines.node import OnNode, failure_file
from kd_lightning.compare.engines.options import SlurmOptions
from kd_lightning.compare.engines.slurm import SlurmEngine
from kd_lightning.compare.engines.squeue import Listed, Place
from kd_lightning.compare.measure import made_on
from kd_lightning.compare.store import classes_file, read_run, weights_file
from kd_lightning.compare.worker import Job, attempt, checkpoint_of, run_job
from kd_lightning.errors import UserError
from kd_lightning.networks.weights import read_weights

TINY = ["--data=tiny.TinyDataModule", "--data.batch_size=32", "--trainer.max_epochs=3", "--trainer.accelerator=cpu"]


class Cluster:
    """Lists what was submitted as running, until a test says otherwise."""

    def __init__(self) -> None:
        self.arrays: list[tuple[dict[str, Any], list[str]]] = []
        self.listed: dict[Place, Listed] = {}

    def executor(self, engine: SlurmEngine, array: str) -> Any:
        cluster = self

        class Executor:
            def map_array(self, function: OnNode, jobs: Sequence[Job]) -> None:
                assert json.loads((engine.folder / f"{array}.json").read_text()) == [job.key for job in jobs]
                cluster.arrays.append(({"threads": function.threads}, [job.row for job in jobs]))
                number = 10 * len(cluster.arrays)
                running = {Place(array, index): Listed(f"{number}_{index}", "RUNNING") for index in range(len(jobs))}
                cluster.listed |= running

        return Executor()


@pytest.fixture
def cluster(temp_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    pytest.importorskip("submitit")
    simulated = Cluster()
    monkeypatch.setattr(SlurmEngine, "_executor", lambda engine, array: simulated.executor(engine, array))
    monkeypatch.setattr(slurm, "listed_jobs", lambda: simulated.listed)
    monkeypatch.setattr(slurm, "POLL_SECONDS", -1.0)
    return simulated


def started(*rows: str, jobs: int = 10) -> SlurmEngine:
    engine = SlurmEngine(SlurmOptions(), Path("study"), jobs=jobs, threads=2)
    for row in rows:
        engine.start(Job(row, 0, [], Path("logs") / row, Path("runs") / f"{row}.json", {}))
    return engine


def finish(row: str) -> None:
    result = Path("runs") / f"{row}.json"
    result.parent.mkdir(exist_ok=True)
    for path in (classes_file(result), weights_file(result), result):
        path.touch()


def test_runs_are_submitted_once_and_each_end_is_told(cluster: Cluster) -> None:
    engine = started("one", "two", "three", jobs=4)
    assert engine.has_room
    assert engine.wait(0) == []
    assert cluster.arrays == [({"threads": 2}, ["one", "two", "three"])]
    finish("one")
    assert [(job.row, failure) for job, failure in engine.wait(0)] == [("one", None)]

    again = started("two", "three", "four")  # the first process was killed
    assert again.wait(0) == []
    assert cluster.arrays[1:] == [({"threads": 2}, ["four"])]
    failure_file(again.folder, "two").write_text("its data are gone")
    places = {job.row: place for place, job in again._submitted.items()}
    cluster.listed[places["three"]] = Listed("10_2", "CANCELLED")
    del cluster.listed[places["four"]]
    ended = {job.row: failure for _ in range(2) for job, failure in again.wait(0)}
    assert ended["two"] == "its data are gone"
    assert str(ended["three"]).startswith("its SLURM job 10_2 was cancelled (study/slurm/logs has")
    assert str(ended["four"]).startswith("SLURM has its job no more, and it left no results")
    assert again.running == []
    started("two").wait(0)  # the study is started once more, and does what failed again
    assert cluster.arrays[2][1] == ["two"]
    assert not failure_file(again.folder, "two").exists()


def test_a_stopped_study_says_what_happens_to_its_jobs(cluster: Cluster) -> None:
    engine = started("one")
    assert engine._hint() == "every finished run is kept, and the same command resumes."
    engine.wait(0)
    assert engine._hint().endswith("which are found then. To cancel them: scancel 10")


def test_squeue_is_read(temp_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = "12_3 RUNNING kd-a\n13 PENDING kd-b\n14 CANCELLED my own job\n"
    Path("squeue").write_text(f"#!/bin/sh\ncat <<'E'\n{answer}E\n")
    Path("squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{temp_folder}:/bin:/usr/bin")
    assert squeue.listed_jobs() == {
        Place("kd-a", 3): Listed("12_3", "RUNNING"),
        Place("kd-b", 0): Listed("13", "PENDING"),
        Place("my own job", 0): Listed("14", "CANCELLED"),
    }
    assert [job.is_alive for job in (Listed(), Listed("1", "PREEMPTED"), Listed("1", "TIMEOUT"))] == [
        False,
        True,
        False,
    ]
    Path("squeue").write_text("#!/bin/sh\nexit 1\n")
    assert squeue.listed_jobs() is None


class Preempted(Callback):
    """Ends the process, as a cluster's signal does, at the start of the second epoch."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == 1 and trainer.ckpt_path is None and Path("preempts").exists():
            raise SystemExit(-1)


def test_a_preempted_run_goes_on_and_gives_what_an_undisturbed_one_gives(temp_folder: Path) -> None:
    callback = "--trainer.callbacks+=test_slurm_engine.Preempted"
    args = ["fit", "--config=student.yaml", *TINY, callback]
    job, other = (
        Job("student", 0, args, Path("logs/student") / name, Path("runs") / f"{name}.json", {}) for name in ("a", "b")
    )
    Path("runs").mkdir()
    run_job(other, keeps_checkpoints=False)
    Path("preempts").touch()
    with pytest.raises(SystemExit):
        run_job(job, keeps_checkpoints=True)
    checkpoint = checkpoint_of(job)
    assert checkpoint is not None
    run_job(job, checkpoint, keeps_checkpoints=True)
    first, second = read_run(job.result), read_run(other.result)
    assert first.curves == second.curves
    assert len(first.curves.epochs) == 3
    assert (first.predicted == second.predicted).all()
    weights, expected = (read_weights(weights_file(result))[0] for result in (job.result, other.result))
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert checkpoint_of(job) is None  # a finished run keeps none
    assert first.made_on == made_on(torch.device("cpu"))


def test_a_checkpoint_of_another_run_is_not_used(temp_folder: Path) -> None:
    job = Job("row", 0, [], Path("logs/row/seed_0"), Path("runs/key.json"), {})
    (job.folder / "checkpoints").mkdir(parents=True)
    (job.folder / "checkpoints/last.ckpt").touch()
    (job.folder / "key.txt").write_text("other")
    assert checkpoint_of(job) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [({"gpus": 2}, "one GPU or none"), ({"time": 1}, "must be 2 or more"), ({"memory": -1.0}, "GB above 0")],
)
def test_wrong_resources_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        SlurmOptions(**options)


def test_a_machine_without_slurm_is_told_so(temp_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(temp_folder))
    with pytest.raises(UserError, match="there is no srun here; start the study on a login node"):
        main(["compare", "--config=quickstart_compare.yaml", "--engine=slurm"])


def test_an_attempt_that_the_cluster_ends_is_no_failure(temp_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job("row", 0, [], Path("logs/row/seed_0"), Path("runs/key.json"), {})
    monkeypatch.setattr(worker, "_print_to", lambda path: None)
    killed = CalledProcessError(-15, ["scontrol", "requeue", "12"])  # by SLURM, with all of the job
    for error in (SystemExit(-1), killed):
        monkeypatch.setattr(worker, "run_job", Mock(side_effect=error))
        with pytest.raises(SystemExit):
            attempt(job, resumes=True)
    monkeypatch.setattr(worker, "run_job", Mock(side_effect=CalledProcessError(1, ["other"])))
    assert str(attempt(job, resumes=True)).startswith("CalledProcessError: Command '['other']'")
