"""What our loop is compared with: the loop that tutorials write, and the bare training step."""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from copy import deepcopy
from itertools import cycle, islice
from time import perf_counter
from typing import Any

import torch
from lightning.pytorch.plugins.precision import Precision
from PIL import Image
from torch import Tensor, nn
from torch.optim import Adam
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from kd_lightning.benchmark.watch import Watch, wait_for
from kd_lightning.data import ImageDataModule
from kd_lightning.data.augment import (
    Augmentation,
    ColorJitter,
    HorizontalFlip,
    RandAugment,
    RandomCrop,
    RandomTranslate,
    TrivialAugment,
)
from kd_lightning.data.loader import Batch, resident
from kd_lightning.fast.graph import capture_cuda, warm_up_stream
from kd_lightning.machine.host_memory import freed_memory_kept, return_freed_memory
from kd_lightning.tasks import Task

WARMUP = 5
"""Steps before the clock starts."""


def usual_transforms(data: ImageDataModule) -> tuple[list[Callable[[Any], Any]], list[str]]:
    """Return torchvision's transforms that change an image as the augmentations do, and the names of the others."""
    found = [(type(step).__name__, _transform(step, data.image_size)) for step in data.augment]
    return [change for _, change in found if change], [name for name, change in found if change is None]


def _transform(step: Augmentation, size: int) -> Callable[[Any], Any] | None:
    match step:
        case RandomCrop(padding=padding, mode=mode):
            return transforms.RandomCrop(size, padding, padding_mode="constant" if mode == "zeros" else mode)  # type: ignore[no-any-return]
        case HorizontalFlip(probability=probability):
            return transforms.RandomHorizontalFlip(probability)  # type: ignore[no-any-return]
        case RandomTranslate(fraction=fraction):
            return transforms.RandomAffine(0, translate=(fraction, fraction))  # type: ignore[no-any-return]
        case ColorJitter(brightness=brightness, contrast=contrast, saturation=saturation, hue=hue):
            return transforms.ColorJitter(brightness, contrast, saturation, hue)  # type: ignore[no-any-return]
        case TrivialAugment():
            return transforms.TrivialAugmentWide()  # type: ignore[no-any-return]
        case RandAugment(num_ops=num_ops, magnitude=magnitude):
            return transforms.RandAugment(num_ops, magnitude)  # type: ignore[no-any-return]
    return None


class PerImage(Dataset[tuple[Tensor, int, int]]):
    """Makes a PIL image of each row's pixels and applies torchvision's transforms, as torchvision's sets do.

    Args:
        data: Gives the training images, already decoded, so that this loop does not decode.
    """

    def __init__(self, data: ImageDataModule) -> None:
        images, rows = data.train_rows()
        self.pixels = images.images.squeeze(3).numpy()  # grey images without an axis of channels
        self.labels, self.rows = images.labels.tolist(), rows.tolist()
        changes, _ = usual_transforms(data)
        normalize = transforms.Normalize(data.normalization.mean, data.normalization.std)
        self.transform = transforms.Compose([*changes, transforms.ToTensor(), normalize])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, int, int]:
        row = self.rows[index]
        return self.transform(Image.fromarray(self.pixels[row])), self.labels[row], row


def usual_task(task: Task, device: torch.device) -> Task:
    """Return a copy of a task as the usual loop has it: layers in their list's order, torch's own memory format."""
    usual = deepcopy(task).to(device, memory_format=torch.contiguous_format)
    usual.compiled = False
    for module in usual.modules():
        if isinstance(module, nn.Sequential):
            module.__class__ = nn.Sequential
    return usual


def usual_loop(task: Task, data: ImageDataModule, steps: int, workers: int, watch: Watch) -> float:
    """Return the seconds that a number of steps take: each image on its own, a plain Adam, the teacher in every step.

    Args:
        task: Gives the networks and the objective; it is trained further.
        data: Gives the images and the size of a batch.
        steps: Steps to measure, after the warm-up.
        workers: Processes that load.
        watch: Measures the parts, if it is on.
    """
    loader = DataLoader(PerImage(data), data.batch_size, shuffle=True, num_workers=workers)
    optimizer = Adam(task.trained_parameters(), lr=5e-5)
    task.train()
    return_freed_memory()  # our own loop may have kept it
    with watch.teacher(task), closing(_usual_steps(task, iter(loader), optimizer, watch)) as losses:
        running_loss = sum(islice(losses, WARMUP))
        wait_for(watch.device)
        watch.seconds.clear()
        started = perf_counter()
        running_loss += sum(islice(losses, steps))
        return perf_counter() - started


def _usual_steps(task: Task, batches: Iterator[list[Tensor]], optimizer: Adam, watch: Watch) -> Generator[float]:
    while True:
        with watch.part("data"):
            batch = Batch(*(part.to(watch.device) for part in next(batches)))
        with watch.part("student"):
            optimizer.zero_grad()
            loss = task.step(batch).loss
        with watch.part("backward"):
            loss.backward()
        with watch.part("optimizer"):
            optimizer.step()
        yield loss.item()


def bare_loop(task: Task, data: ImageDataModule, precision: Precision, steps: int, device: torch.device) -> float:
    """Return the seconds that a number of steps take: gather, normalize, forward, backward, Adam; nothing is counted.

    Args:
        task: Gives network and objective; it is trained further.
        data: Gives the images and the size of a batch.
        precision: Of the forward pass.
        steps: Steps to measure, after the warm-up.
        device: Where it runs; on a GPU the step is one CUDA graph.
    """
    loader = data.train_dataloader()
    loader.data = resident(data.train_rows()[0], device)
    batches = [rows.to(device) for rows in loader.sampler.ordered().split(data.batch_size)]
    current, following = batches[0].clone(), cycle(batches)
    graph = device.type == "cuda"
    optimizer = Adam(task.trained_parameters(), lr=5e-5, fused=True, capturable=graph)
    task.train()

    def bare_step() -> None:
        optimizer.zero_grad()
        raw = loader.gather(current)
        images = precision.convert_input(data.normalization.apply(raw.images.permute(0, 3, 1, 2)))
        with precision.train_step_context():
            loss = task.step(Batch(images, raw.labels, raw.rows)).loss
        loss.backward()
        optimizer.step()

    def train(step: Callable[[], None], count: int) -> None:
        for rows in islice(following, count):
            current.copy_(rows)
            step()
        wait_for(device)

    with freed_memory_kept():
        with warm_up_stream(device):
            train(bare_step, WARMUP)
        step = capture_cuda(bare_step) if graph else bare_step
        train(step, WARMUP if graph else 0)
        started = perf_counter()
        train(step, steps)
        return perf_counter() - started
