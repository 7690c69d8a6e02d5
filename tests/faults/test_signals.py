"""SIGINT, SIGTERM and SIGKILL at random moments of commands: nothing half-written, no traceback, and it goes on.

They take minutes, so they run only on request: ``python -m pytest -m faults``. ``FAULT_POINTS`` sets how
many moments of each, ``FAULT_SEED`` which ones.
"""

import json
import os
import random
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import NamedTuple

import onnx
import pytest
import torch
import yaml
from tiny import TinyDataModule

from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.machine import stopping
from kd_lightning.networks import LightNN
from kd_lightning.networks.weights import save_weights

pytestmark = pytest.mark.faults

POINTS = int(os.environ.get("FAULT_POINTS", "20"))
SEED = int(os.environ.get("FAULT_SEED", "0"))
SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}
DATA = ["--data=tiny.TinyDataModule", "--data.count=4000"]
FIT = [
    "fit",
    "--config=student.yaml",
    *DATA,
    "--data.batch_size=16",
    "--trainer.max_epochs=3",
    "--trainer.accelerator=cpu",
]
EXPORT = ["export", "--model=net.pth", *DATA, "--variants=[fp32,dynamic,static]", "--max_drop=100", "--output=out"]
STUDY = {
    "baseline": {"config": "student.yaml"},
    "compared": [{"config": "student.yaml", "name": "same"}],
    "onnx": False,
}
COMPARE = ["compare", "--config=study.yaml", *FIT[2:], "--seeds=1", "--output=out", "--jobs=1", "--threads=1"]
PRELOADED = ["kd_lightning.training", "kd_lightning.commands.export", "onnxruntime", "torch.onnx", "tiny"]
TESTS = Path(__file__).parents[1]
CONTEXT = get_context("forkserver")  # starts commands without seconds of imports
CONTEXT.set_forkserver_preload(PRELOADED)


class Ended(NamedTuple):
    """What a command left: its status, what it printed, and how long it took in seconds."""

    status: int
    printed: str
    errors: str
    seconds: float


def command(args: Sequence[str], folder: Path, started: Event) -> None:
    """Run a command in this process, as if it had been typed in a folder, and report when it listens to signals."""
    os.setsid()
    os.chdir(folder)
    for name, number in (("stdout", 1), ("stderr", 2)):
        with (folder / name).open("wb") as file:
            os.dup2(file.fileno(), number)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    torch.set_num_threads(1)
    sys.path.insert(0, str(TESTS))
    from kd_lightning.cli import main

    with stopping.stoppable():  # main's first line, after which the moments are drawn
        started.set()
        status = main(args)
    sys.stdout.flush()
    os._exit(status)


def run(args: Sequence[str], folder: Path, number: int = 0, after: float = 0) -> Ended:
    """Run a command; send it a signal after a time in seconds, where one is given."""
    folder.mkdir(parents=True, exist_ok=True)
    started = CONTEXT.Event()
    process = CONTEXT.Process(target=command, args=(list(args), folder, started))
    process.start()
    started.wait(60)
    start = time.monotonic()
    if number:
        process.join(after)
        if process.is_alive():
            assert process.pid is not None
            os.kill(process.pid, number)
    process.join(120)
    seconds = time.monotonic() - start
    if process.exitcode is None:
        process.kill()
        pytest.fail(f"{args} hangs")
    printed, errors = ((folder / name).read_text() for name in ("stdout", "stderr"))
    return Ended(process.exitcode, printed, errors, seconds)


def check_end(ended: Ended, number: int) -> None:
    """Check status and messages of a command that was sent a signal, perhaps after it was done."""
    assert ended.status in (SIGNALS[signal.Signals(number)], 0), ended
    for word in ("Traceback", "terminate called", "Error", "Exception"):
        assert word not in ended.errors, ended
    if ended.status > 0:
        assert (ended.errors + ended.printed).count("Stopped by") == 1, ended


def check_files(folder: Path) -> None:
    """Check that each file under its final name is complete."""
    whole: dict[str, Callable[[Path], object]] = {
        ".ckpt": lambda path: torch.load(path, weights_only=True),
        ".pth": lambda path: torch.load(path, weights_only=True),
        ".onnx": lambda path: onnx.checker.check_model(path, full_check=True),
        ".json": lambda path: json.loads(path.read_text()),
        ".yaml": lambda path: yaml.safe_load(path.read_text()),
    }
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix in whole and not hidden:
            whole[path.suffix](path)


def weights(folder: Path) -> dict[str, bytes]:
    """Return the trained weights of the newest run that has any."""
    [*_, newest] = sorted(
        folder.glob("lightning_logs/student/version_*/NNLight.pth"), key=lambda path: path.stat().st_mtime
    )
    state = torch.load(newest, weights_only=True)["state_dict"]
    return {name: values.numpy().tobytes() for name, values in state.items()}


def accuracies(folder: Path) -> list[float]:
    """Return the test accuracy of each run of a finished study."""
    study = json.loads((folder / "out" / "report.json").read_text())["study"]
    return [run["test_accuracy"] for row in study["rows"] for run in row["runs"]]


def resumed(folder: Path, ended: Ended) -> list[str]:
    """Return the command that goes on with a stopped fit: the printed one, from the newest checkpoint, or the first."""
    printed_command = re.search(r"kd-lightning (fit .*)", ended.printed + ended.errors)
    if printed_command:
        return printed_command[1].split()
    checkpoints = sorted(folder.glob("lightning_logs/student/version_*/checkpoints/last.ckpt"))
    return [*FIT, *(f"--ckpt_path={path}" for path in checkpoints[-1:])]


def write_network(folder: Path) -> None:
    network, data = LightNN(num_classes=4, image_size=8), TinyDataModule(count=4000)
    pixels, path = data.normalization, network.class_path
    info = ModelInfo(path, network.arguments, data.class_names, pixels.mean, pixels.std, data.image_size, data.name)
    torch.manual_seed(0)
    save_weights(folder / "net.pth", network, info)


class Job(NamedTuple):
    """A command to stop.

    Attributes:
        args: The command.
        prepare: Writes into its folder what it needs.
        resumed: Gives the command that goes on, for its folder and how it ended.
        result: Reads what an undisturbed one and a resumed one have in common.
    """

    args: list[str]
    prepare: Callable[[Path], object]
    resumed: Callable[[Path, Ended], list[str]]
    result: Callable[[Path], object]


def write_study(folder: Path) -> None:
    (folder / "study.yaml").write_text(yaml.safe_dump(STUDY))


def exported(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "out").iterdir())


JOBS = {
    "fit": Job(FIT, lambda folder: None, resumed, weights),
    "export": Job(EXPORT, write_network, lambda *_: EXPORT, exported),
    "compare": Job(COMPARE, write_study, lambda *_: COMPARE, accuracies),
}


def prepared(job: Job, folder: Path) -> Path:
    folder.mkdir()
    job.prepare(folder)
    return folder


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
@pytest.mark.parametrize("name", JOBS)
def test_a_command_that_is_stopped_anywhere_leaves_complete_files_and_goes_on_to_the_same_results(
    name: str, number: signal.Signals, tmp_path: Path
) -> None:
    job, folder = JOBS[name], prepared(JOBS[name], tmp_path / "undisturbed")
    undisturbed = run(job.args, folder)
    assert undisturbed.status == 0, undisturbed
    expected, draw = job.result(folder), random.Random(f"{SEED} {name} {number}")
    for index in range(POINTS):
        folder, point = prepared(job, tmp_path / str(index)), draw.uniform(0, undisturbed.seconds)
        ended = run(job.args, folder, number, point)
        print(f"{name} {number.name} {index} at {point:.2f} s: {ended}", flush=True)
        check_end(ended, number)
        check_files(folder)
        if ended.status:
            if number is not signal.SIGKILL:
                assert not list(folder.rglob(".kd_lightning-*"))
            again = run(job.resumed(folder, ended), folder)
            assert again.status == 0, again
            assert "Traceback" not in again.errors
        assert job.result(folder) == expected, (point, ended)
        shutil.rmtree(folder)
