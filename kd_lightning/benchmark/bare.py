"""The floor: the same training step and nothing else, on a GPU as one CUDA graph."""

from collections.abc import Callable
from itertools import cycle, islice
from time import perf_counter

from lightning.pytorch.plugins.precision import Precision
from torch import Tensor
from torch.optim import Adam

from kd_lightning.benchmark.usual import WARMUP
from kd_lightning.benchmark.watch import Watch, wait_for
from kd_lightning.data import ImageDataModule
from kd_lightning.data.loader import Batch, BatchLoader, resident
from kd_lightning.fast.graph import capture_cuda, warm_up_stream
from kd_lightning.machine.host_memory import freed_memory_kept
from kd_lightning.tasks import Task


def bare_loop(task: Task, data: ImageDataModule, precision: Precision, steps: int, watch: Watch) -> float:
    """Return the seconds that a number of steps take: gather, normalize, forward, backward, Adam; nothing is counted.

    Args:
        task: Gives network and objective; it is trained further.
        data: Gives the images and the size of a batch.
        precision: Of the forward pass.
        steps: Steps to measure, after the warm-up.
        watch: Gives the device.
    """
    device, images = watch.device, data.train_rows()[0]
    loader = data.train_dataloader()
    loader.data = resident(images, device)
    graph = device.type == "cuda"
    optimizer = Adam(task.trained_parameters(), lr=5e-5, fused=True, capturable=graph)
    task.train()
    batches = [rows.to(device) for rows in loader.sampler.ordered().split(data.batch_size)]
    current, rows = batches[0].clone(), cycle(batches)
    step = _step(task, data, precision, loader, optimizer, current)

    def train(count: int) -> None:
        for batch in islice(rows, count):
            current.copy_(batch)
            step()
        wait_for(device)

    with freed_memory_kept():
        with warm_up_stream(device):
            train(WARMUP)
        if graph:
            step = capture_cuda(step)
            train(WARMUP)
        started = perf_counter()
        train(steps)
        return perf_counter() - started


def _step(
    task: Task, data: ImageDataModule, precision: Precision, loader: BatchLoader, optimizer: Adam, rows: Tensor
) -> Callable[[], None]:
    """Return a training step on the rows that a tensor holds."""

    def step() -> None:
        optimizer.zero_grad()
        raw = loader.gather(rows)
        images = precision.convert_input(data.normalization.apply(raw.images.permute(0, 3, 1, 2)))
        with precision.train_step_context():
            loss = task.step(Batch(images, raw.labels, raw.rows)).loss
        loss.backward()
        optimizer.step()

    return step
