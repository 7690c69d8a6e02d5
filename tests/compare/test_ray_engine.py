"""Runs as data for machines that share no folder, and Ray, which brings them there where it is installed."""

import os
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path

import pytest
import torch

from kd_lightning.cli import main
from kd_lightning.compare.engines import ray as engine
from kd_lightning.compare.engines.options import RayOptions
from kd_lightning.compare.engines.parcel import Delivery, copy_own_modules, deliver, pack, perform
from kd_lightning.compare.engines.ray import RayEngine, explain, room
from kd_lightning.compare.worker import Job
from kd_lightning.errors import UserError


def job(name: str) -> Job:
    """Return a job whose arguments name two files."""
    Path("out/runs").mkdir(parents=True, exist_ok=True)
    Path("out/runs/teacher.pth").write_bytes(b"weights")
    Path("study.yaml").write_text("a: 1")
    Path("fit").touch()  # a word, not a file
    args = ["fit", "--config", str(Path("study.yaml").absolute()), "--model.teacher.weights=out/runs/teacher.pth"]
    return Job(name, 0, args, Path("out/logs", name, "seed_0"), Path("out/runs", f"{name}.json"), {})


def work(job: Job) -> str | None:
    """Do a run: leave what its files hold; fail or die by its name."""
    command, _, config, weights = job.args
    teacher = Path(weights.removeprefix("--model.teacher.weights="))
    assert command == "fit"
    job.folder.mkdir(parents=True)
    (job.folder / "output.txt").write_text(f"{config} {teacher} {job.folder}")
    if job.row == "fails":
        return f"out of luck ({job.folder / 'output.txt'})"
    if job.row == "dies" and not Path("died").exists():
        Path("died").touch()
        os._exit(1)
    job.result.parent.mkdir(exist_ok=True)
    for ending, content in {".pth": teacher.read_bytes(), ".npy": b"classes"}.items():
        job.result.with_suffix(ending).write_bytes(content)
    job.result.write_text(Path(config).read_text())
    return None


@pytest.fixture
def _same_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("temp_folder", "_same_threads")
def test_a_run_needs_no_folder_of_the_study_and_leaves_its_files_there() -> None:
    done = job("done")
    parcel = pack(done)
    assert sorted(Path(name).name for name in parcel.files) == ["study.yaml", "teacher.pth"]
    Path("out/runs/teacher.pth").unlink()
    Path("study.yaml").unlink()
    delivery = perform(parcel, 1, work)
    assert not done.result.exists()
    assert not done.folder.exists()
    deliver(delivery, done)
    left = {path.name: path.read_text() for path in Path("out").rglob("*") if path.is_file()}
    here = Path.cwd()
    assert left == {
        "done.json": "a: 1",
        "done.pth": "weights",
        "done.npy": "classes",
        # texts name the study's files, not those of the machine that did the run
        "output.txt": f"{here}/study.yaml {here}/out/runs/teacher.pth out/logs/done/seed_0",
    }


@pytest.mark.usefixtures("temp_folder", "_same_threads")
def test_a_failed_run_leaves_its_logs_and_no_results() -> None:
    failed = job("fails")
    delivery = perform(pack(failed), 1, work)
    assert delivery.failure == "out of luck (out/logs/fails/seed_0/output.txt)"
    failed.folder.mkdir(parents=True)
    (failed.folder / "old.txt").touch()
    deliver(delivery, failed)
    assert [path.name for path in failed.folder.iterdir()] == ["output.txt"]
    assert not failed.result.exists()


@pytest.mark.usefixtures("temp_folder")
def test_what_cannot_be_written_is_refused_before_the_results() -> None:
    done = job("done")
    done.folder.parent.mkdir(parents=True)
    done.folder.symlink_to(Path.cwd())
    with pytest.raises(UserError, match="leads out of out/logs"):
        deliver(Delivery(None, {"a": b""}, {".json": b"{}"}), done)
    assert not done.result.exists()


def test_the_users_own_modules_are_copied_by_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("own_package_a/__init__.py", "own_package_a/deep.py", "own_module_a.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"NAME = '{name}'")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("own_package_a.deep", "own_module_a"):
        import_module(name)
    copy_own_modules(tmp_path / "copy")
    for name in ("own_package_a", "own_package_a.deep", "own_module_a"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path / "copy")
    for name in ("own_package_a.deep", "own_module_a"):
        assert Path(import_module(name).__file__ or "").is_relative_to(tmp_path / "copy")
        monkeypatch.delitem(sys.modules, name)
    assert not [path for path in (tmp_path / "copy").rglob("*") if path.name in ("pytest", "torch", "kd_lightning")]


@pytest.mark.parametrize(
    ("nodes", "threads", "gpus", "runs"),
    [
        ([{"CPU": 8.0}], 1, 0, 8),
        ([{"CPU": 7.0}, {"CPU": 4.0}], 2, 0, 5),
        ([{"CPU": 8.0, "GPU": 1.0}, {"CPU": 64.0}], 1, 0.25, 4),
        ([{"CPU": 16.0, "GPU": 2.0}], 1, 0.4, 4),  # no run on two GPUs
        ([{"CPU": 2.0, "GPU": 1.0}], 4, 1, 0),
        ([{"GPU": 1.0}], 1, 1, 0),
    ],
)
def test_the_room_for_runs(nodes: list[Mapping[str, float]], threads: int, gpus: float, runs: int) -> None:
    assert room(nodes, threads, gpus) == runs


def test_a_lost_run_says_why() -> None:
    class WorkerCrashedError(Exception): ...

    class RayTaskError(Exception):
        cause = ModuleNotFoundError("No module named 'own'")

    assert explain(WorkerCrashedError()).startswith("its process or its machine died, and again when it was repeated")
    assert explain(RayTaskError("a long trace")) == "ModuleNotFoundError: No module named 'own'"


@pytest.mark.usefixtures("temp_folder")
def test_without_ray_the_study_does_not_begin(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(engine, "find_spec", lambda name: None)
    Path("study.yaml").write_text("baseline: {config: student.yaml}\ncompared: [{config: cosine.yaml}]")
    assert main(["compare", "--config", "study.yaml", "--engine", "ray"]) == 2
    assert 'needs Ray; install it with `pip install "kd_lightning[ray]"`.' in capsys.readouterr().err
    assert main(["compare", "--config", "study.yaml", "--engine", "ray", "--ray.gpus", "2"]) == 2
    assert "--ray.gpus is 2.0, but it must be from 0 to 1" in " ".join(capsys.readouterr().err.split())
    assert not Path("lightning_logs").exists()


@pytest.mark.usefixtures("temp_folder")
def test_ray_brings_runs_to_its_processes_and_does_lost_ones_again() -> None:
    pytest.importorskip("ray")
    tasks = RayEngine(RayOptions(), jobs=1, threads=1, work=work)
    try:
        ended: dict[str, str | None] = {}
        for name in ("fails", "dies", "done"):
            tasks.start(job(name))
            assert not tasks.has_room
            while tasks.running:
                ended |= {done.row: failure for done, failure in tasks.wait(1)}
    finally:
        tasks.close()
    assert ended == {"fails": "out of luck (out/logs/fails/seed_0/output.txt)", "dies": None, "done": None}
    assert Path("died").exists()
    assert sorted(path.name for path in Path("out/runs").iterdir() if path.stem != "teacher") == [
        *("dies.json", "dies.npy", "dies.pth"),
        *("done.json", "done.npy", "done.pth"),
    ]
