"""The floor: the same training step and nothing else, on a GPU as one CUDA graph."""

from collections.abc import Callable
from itertools import cycle, islice
from time import perf_counter

import torch
from lightning.pytorch.plugins.precision import Precision
from torch import Tensor
from torch.optim import Adam

from kd_lightning.benchmark.usual import WARMUP
from kd_lightning.benchmark.watch import Watch, wait_for
from kd_lightning.data import ImageDataModule
from kd_lightning.data.base import resident
from kd_lightning.data.loader import Batch, BatchLoader
from kd_lightning.host_memory import keep_freed_memory, return_freed_memory
from kd_lightning.tasks import Task


def bare_loop(task: Task, data: ImageDataModule, precision: Precision, steps: int, watch: Watch) -> float:
    """Return the seconds that a number of steps take: gather, normalize, forward, backward, Adam; nothing is counted.

    Args:
        task: Gives network and objective; it is trained further.
        data: Gives the images and the size of a batch.
        precision: Of the forward pass.
        steps: Steps to measure, behind the first ones.
        watch: Says where it runs.
    """
    device, images = watch.device, data.train_rows()[0]
    loader = data.train_dataloader()
    loader.data = resident(images, device)
    graph = device.type == "cuda"
    optimizer = Adam(task.trained_parameters(), lr=5e-5, fused=True, capturable=graph)
    task.train()
    if not graph:
        keep_freed_memory()
    batches = [rows.to(device) for rows in loader.sampler.ordered().split(data.batch_size)]
    current = batches[0].clone()
    step = _step(task, data, precision, loader, optimizer, current)
    if graph:
        step = _captured(step)
    rows = cycle(batches)
    for batch in islice(rows, WARMUP):
        current.copy_(batch)
        step()
    wait_for(device)
    started = perf_counter()
    for batch in islice(rows, steps):
        current.copy_(batch)
        step()
    wait_for(device)
    seconds = perf_counter() - started
    return_freed_memory()
    return seconds


def _step(
    task: Task, data: ImageDataModule, precision: Precision, loader: BatchLoader, optimizer: Adam, rows: Tensor
) -> Callable[[], None]:
    """Return a training step on the rows that a tensor holds."""

    def step() -> None:
        optimizer.zero_grad()
        raw = loader.gather(rows)
        images = precision.convert_input(data.normalization.apply(raw.images.permute(0, 3, 1, 2)))
        with precision.train_step_context():
            loss = task.result(Batch(images, raw.labels, raw.rows)).loss
        loss.backward()
        optimizer.step()

    return step


def _captured(step: Callable[[], None]) -> Callable[[], None]:
    """Return a CUDA graph of a step, which runs a few times before."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARMUP):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay
