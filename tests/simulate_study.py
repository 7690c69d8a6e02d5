"""What a study of many runs costs besides training, measured with runs that sleep instead.

``python tests/simulate_study.py 1000`` does a study of 1,000 runs of 50 ms, two at once, and prints its time.
With ``ray`` as a second argument, Ray does it.
"""

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import yaml
from compare_example import example_run
from rich.console import Console
from tiny import TinyDataModule

from kd_lightning.commands import compare as command
from kd_lightning.compare.engines.ray import RayEngine
from kd_lightning.compare.results import Run
from kd_lightning.compare.run_key import weights_hash
from kd_lightning.compare.runner import Results, Runner
from kd_lightning.compare.store import weights_file, write_run
from kd_lightning.compare.study import read_request
from kd_lightning.compare.worker import Job
from kd_lightning.files import atomic_write
from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.networks import LightNN
from kd_lightning.networks.weights import save_weights

SECONDS = 0.05
WEIGHTS = Path("weights.pth")


def simulated_loop(connection: Connection, threads: int) -> None:
    """Answer each job as a worker does."""
    drawn_runs()
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        simulate(job)
        connection.send(None)


def simulate(job: Job) -> None:
    """Sleep, and leave weights and drawn results for CIFAR-10's 10,000 test images."""
    time.sleep(SECONDS)
    write_results(job, replace(drawn_runs()[(job.seed + len(job.row)) % 10], seed=job.seed))


@cache
def drawn_runs() -> list[Run]:
    return [replace(example_run(seed, 0.8, images=10_000, epochs=50), class_count=10) for seed in range(10)]


def write_results(job: Job, run: Run) -> None:
    with atomic_write(weights_file(job.result)) as temporary:
        temporary.write_bytes(WEIGHTS.read_bytes())
    write_run(replace(run, weights=weights_hash(weights_file(job.result))), job.result)


def write_study() -> None:
    data, network = TinyDataModule(classes=10), LightNN(num_classes=10, image_size=8)
    info = ModelInfo(network.class_path, network.arguments, data.class_names, (0.5,) * 3, (0.2,) * 3, 8, data.name)
    save_weights(WEIGHTS, network, info)
    rows = [
        {"config": "cosine.yaml", "name": f"cosine {weight}", "options": {"model.hidden_rep_loss_weight": weight}}
        for weight in (0.25, 0.5)
    ]
    study = {"teacher": {"config": "teacher.yaml"}, "baseline": {"config": "student.yaml"}, "compared": rows}
    Path("study.yaml").write_text(yaml.safe_dump({**study, "onnx": False}))


def timed_run(runner: Runner, seeds: Sequence[int]) -> Results:
    """Do the runs, and print what they took."""
    start, used = time.monotonic(), time.process_time()
    results = original(runner, seeds)
    ideal = len(results.files) * SECONDS / 2
    print(
        f"{len(results.files)} runs: {time.monotonic() - start:.1f} s, of which they sleep {ideal:.1f} s each process"
    )
    print(f"the study's process: {time.process_time() - used:.2f} s of CPU")
    return results


original = Runner.run


def main(runs: int, engine: str) -> None:
    import simulate_study  # worker processes import it by its name

    write_study()
    args = ["--config=study.yaml", f"--seeds={runs // 4}", "--output=out", "--jobs=2", "--threads=1"]
    args.append(f"--engine={engine}")
    request = read_request([*args, "--data=tiny.TinyDataModule", "--data.classes=10", "--trainer.accelerator=cpu"])
    with (
        mock.patch("kd_lightning.compare.pool.worker_loop", simulate_study.simulated_loop),
        mock.patch.object(command, "RayEngine", partial(RayEngine, work=simulate_study.simulate)),
        mock.patch.object(Runner, "run", timed_run),
        Path("printed.txt").open("w") as printed,
    ):
        start = time.monotonic()
        _, page = command.compare(request, ["compare", *args], Console(file=printed))
    print(f"all of it {time.monotonic() - start:.1f} s; the report has {page.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        os.chdir(folder)
        main(int(sys.argv[1]), *(sys.argv[2:] or ["local"]))
