"""The training loop that tutorials write, to compare with."""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from itertools import islice
from time import perf_counter
from typing import Any

from PIL import Image
from torch import Tensor
from torch.optim import Adam
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from kd_lightning.benchmark.watch import Watch, wait_for
from kd_lightning.data import ImageDataModule
from kd_lightning.data.augment import Augmentation, ColorJitter, HorizontalFlip, RandomCrop, RandomTranslate
from kd_lightning.data.loader import Batch
from kd_lightning.machine.host_memory import return_freed_memory
from kd_lightning.tasks import Task

Sample = tuple[Tensor, int, int]

WARMUP = 5
"""Steps before the clock starts."""


def usual_transforms(data: ImageDataModule) -> tuple[list[Callable[[Any], Any]], list[str]]:
    """Return torchvision's transforms that change an image as the augmentations do, and the names of the others."""
    found, missing = [], []
    for step in data.augment:
        transform = _transform(step, data.image_size)
        if transform is None:
            missing.append(type(step).__name__)
        else:
            found.append(transform)
    return found, missing


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
    return None


class PerImage(Dataset[Sample]):
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

    def __getitem__(self, index: int) -> Sample:
        row = self.rows[index]
        return self.transform(Image.fromarray(self.pixels[row])), self.labels[row], row


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
    with watch.teacher(task), closing(_steps(task, iter(loader), optimizer, watch)) as losses:
        running_loss = sum(islice(losses, WARMUP))
        wait_for(watch.device)
        watch.restart()
        started = perf_counter()
        running_loss += sum(islice(losses, steps))
        return perf_counter() - started


def _steps(task: Task, batches: Iterator[list[Tensor]], optimizer: Adam, watch: Watch) -> Generator[float]:
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
