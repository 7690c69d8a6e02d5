"""What a study of many runs costs besides training.

``python tests/compare/test_many_runs.py 1000`` times a study of 1,000 simulated runs of 50 ms each.
"""

import os
import resource
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import yaml
from rich.console import Console
from tiny import TinyDataModule

from kd_lightning.commands import compare as command
from kd_lightning.compare import pool
from kd_lightning.compare.results import Curves, Run
from kd_lightning.compare.runner import Runner
from kd_lightning.compare.store import weights_file, write_run
from kd_lightning.compare.study import read_request
from kd_lightning.compare.worker import Job
from kd_lightning.files import atomic_write
from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.networks import LightNN
from kd_lightning.networks.weights import save_weights

SECONDS = 0.05
IMAGES = 10_000
WEIGHTS = Path("weights.pth")


def simulated_loop(connection: Connection, threads: int) -> None:
    """Do in a worker process what it does for each run, but sleep instead of training."""
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        time.sleep(SECONDS)
        simulate(job)
        connection.send(None)


def simulate(job: Job) -> None:
    """Write weights, and results that are drawn by row and seed."""
    generator = np.random.default_rng([job.seed, len(job.row)])
    labels = np.arange(IMAGES) % 4
    predicted = np.where(generator.random(IMAGES) < 0.8, labels, (labels + 1) % 4)
    with atomic_write(weights_file(job.result)) as temporary:
        temporary.write_bytes(WEIGHTS.read_bytes())
    curves = Curves(tuple(range(1, 51)), *(tuple(generator.random(50).tolist()) for _ in range(4)))
    write_run(Run(job.seed, 1.0, 0.1, labels, predicted, 4, 1000, 1000, SECONDS, curves), job.result)


def write_study() -> None:
    data, network = TinyDataModule(), LightNN(num_classes=4, image_size=8)
    info = ModelInfo(network.class_path, network.arguments, data.class_names, (0.5,) * 3, (0.2,) * 3, 8, data.name)
    save_weights(WEIGHTS, network, info)
    rows = [
        {"config": "cosine.yaml", "name": f"cosine {weight}", "options": {"model.hidden_rep_loss_weight": weight}}
        for weight in (0.25, 0.5)
    ]
    study = {"teacher": {"config": "teacher.yaml"}, "baseline": {"config": "student.yaml"}, "compared": rows}
    Path("study.yaml").write_text(yaml.safe_dump({**study, "onnx": False}))


def time_study(runs: int) -> None:
    write_study()
    args = ["--config=study.yaml", f"--seeds={runs // 4}", "--output=out", "--jobs=2", "--threads=1"]
    request = read_request([*args, "--data=tiny.TinyDataModule", "--trainer.accelerator=cpu"])
    with Path("printed.txt").open("w") as printed:
        command.compare(request, ["compare", *args], Console(file=printed))


def main(runs: int) -> None:
    import cProfile
    import pstats

    pool.worker_loop = simulated_loop
    original, profile = Runner.run, cProfile.Profile()

    def timed(self, seeds):
        start, used = time.monotonic(), time.process_time()
        if os.environ.get("PROFILE"): profile.enable()
        results = original(self, seeds)
        profile.disable()
        print("run", time.monotonic() - start, "cpu", time.process_time() - used, "children", resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
        return results

    Runner.run = timed
    start, used = time.monotonic(), time.process_time()
    time_study(runs)
    print("all", time.monotonic() - start, "cpu", time.process_time() - used)
    if os.environ.get("PROFILE"): pstats.Stats(profile).sort_stats("cumtime").print_stats(45)
    print(Path("out/report.html").stat().st_size)


if __name__ == "__main__":
    import test_many_runs

    with TemporaryDirectory() as folder:
        os.chdir(folder)
        test_many_runs.main(int(sys.argv[1]))
