"""Which images a fit sees under the Trainer's options, compared with a plain DataLoader of the same images."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, seed_everything
from task_example import quick_trainer
from tiny import TinyDataModule, TinyNetwork
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler, TensorDataset

from kd_lightning.data.loader import Batch, RawBatch, RowSampler
from kd_lightning.errors import UserError
from kd_lightning.networks import Network
from kd_lightning.tasks import Classifier
from kd_lightning.tasks.step import Step

Seen = list[tuple[str, int, list[int]]]
"""Stage, epoch and rows of each batch."""


class RowRecorder(Classifier):
    """Records the rows of every batch."""

    def __init__(self) -> None:
        super().__init__(TinyNetwork())
        self.seen: Seen = []

    def step(self, batch: Batch) -> Step:
        """Record the rows, too."""
        self.seen.append((self.trainer.state.stage or "", self.current_epoch, batch.rows.tolist()))
        return super().step(batch)


class Order(Sampler[int]):
    """Gives a DataLoader the order of our sampler."""

    def __init__(self, rows: RowSampler) -> None:
        self.rows = rows

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Lightning calls it."""
        self.rows.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[int]:
        return iter(self.rows.ordered().tolist())


class PlainLoaders(TinyDataModule):
    """Serves the same images by torch's own DataLoader."""

    def train_dataloader(self) -> Any:
        """Serve the training images."""
        return self.plainly(super().train_dataloader())

    def val_dataloader(self) -> Any:
        """Serve the validation images."""
        return self.plainly(super().val_dataloader())

    def plainly(self, loader: Any) -> DataLoader[tuple[torch.Tensor, ...]]:
        """Turn one of our loaders into torch's."""
        images, labels = loader.data
        return DataLoader(
            TensorDataset(images, labels, torch.arange(len(labels))),
            batch_size=loader.batch_size,
            sampler=Order(loader.sampler),
            drop_last=loader.drop_last,
            collate_fn=lambda items: RawBatch(*(torch.stack(values) for values in zip(*items, strict=True))),
        )


class SaveAt(Callback):
    """Saves a checkpoint after a step, and counts the batches until then."""

    def __init__(self, step: int, path: Path) -> None:
        self.step = step
        self.path = path
        self.seen = 0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        """Save after the step."""
        if trainer.global_step == self.step and not self.seen:
            self.seen = len(pl_module.seen)
            trainer.save_checkpoint(self.path)


def fit(kind: type[TinyDataModule], data: dict[str, Any], ckpt: Path | None = None, **options: Any) -> RowRecorder:
    seed_everything(0, verbose=False)
    task = RowRecorder()
    trainer = quick_trainer(**{"epochs": 3, **options})
    datamodule = kind(
        **{"count": 60, "batch_size": 8, "val_size": 0.2, "eval_batch_size": 4, "normalize": "imagenet", **data}
    )
    trainer.fit(task, datamodule=datamodule, ckpt_path=ckpt, weights_only=True)
    return task


OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "nothing": ({}, {}),
    "a share of both": ({"limit_train_batches": 0.5, "limit_val_batches": 0.5}, {}),
    "validation by batches of all epochs": ({"val_check_interval": 4, "check_val_every_n_epoch": None}, {}),
    "reloaded loaders": ({"reload_dataloaders_every_n_epochs": 1}, {}),
    "steps": ({"max_steps": 9, "epochs": -1}, {}),
    "accumulation": ({"accumulate_grad_batches": 2}, {}),
    "only whole batches": ({"val_check_interval": 0.5}, {"batch_size": 11, "drop_last": True}),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_a_fit_sees_what_a_plain_dataloader_gives_it_and_a_resumed_one_the_rest(name: str, tmp_path: Path) -> None:
    options, data = OPTIONS[name]
    save = SaveAt(5, tmp_path / "middle.ckpt")
    ours = fit(TinyDataModule, data, callbacks=[save], **options)
    assert ours.seen == fit(PlainLoaders, data, **options).seen
    assert fit(TinyDataModule, data, ckpt=save.path, **options).seen == ours.seen[save.seen :]


def training_rows(task: RowRecorder) -> list[list[tuple[int, ...]]]:
    """Return the rows of the training batches of each epoch."""
    epochs = max(epoch for _, epoch, _ in task.seen) + 1
    return [
        [tuple(rows) for stage, of, rows in task.seen if (stage, of) == ("train", epoch)] for epoch in range(epochs)
    ]


@pytest.mark.parametrize(("batches", "expected"), [(1, 1), (0.5, 3)])
def test_overfitting_sees_the_same_batches_in_every_epoch(batches: float, expected: int) -> None:
    first, *others = training_rows(fit(TinyDataModule, {}, overfit_batches=batches))
    assert len(first) == expected
    assert all(epoch == first for epoch in others)
    assert len({label % 4 for batch in first for label in batch}) == 4  # no class is missing


def test_a_smoke_run_sees_its_number_of_batches() -> None:
    task = fit(TinyDataModule, {}, fast_dev_run=2)
    assert [stage for stage, _, _ in task.seen] == ["train", "train", "validate", "validate"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 16}, "in which batch_size was 8; now it is 16"),
        ({"count": 80}, "the number of training images was 48; now it is 64"),
    ],
)
def test_the_rest_of_an_epoch_is_only_trained_in_the_order_that_it_began_with(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    save = SaveAt(5, tmp_path / "middle.ckpt")
    fit(TinyDataModule, {}, callbacks=[save], max_steps=5)
    with pytest.raises(UserError, match=message):
        fit(TinyDataModule, change, ckpt=save.path)


class Normed(TinyNetwork):
    """Normalizes a vector an image, of which there must be two."""

    def __init__(self, num_classes: int = 4, in_channels: int = 3, image_size: int = 8) -> None:
        super().__init__(num_classes, in_channels, image_size)
        self.norm = nn.BatchNorm1d(4)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of the map's normalized means."""
        return self.head(self.norm(self.features(images).mean((2, 3))))  # type: ignore[no-any-return]


def test_a_last_batch_of_one_image_is_refused_where_the_network_cannot_train_on_it() -> None:
    def fit_in_batches(network: Network, size: int, **options: Any) -> None:
        data = TinyDataModule(count=33, val_size=0, batch_size=size, drop_last=options.pop("drop_last", False))
        quick_trainer(**options).fit(Classifier(network), datamodule=data)

    for size in (8, 1):
        with pytest.raises(UserError, match=f"33 training images in batches of {size} leave a last batch of one"):
            fit_in_batches(Normed(), size)
    fit_in_batches(Normed(), 8, drop_last=True)
    fit_in_batches(Normed(), 8, limit_train_batches=4)
    fit_in_batches(TinyNetwork(), 8)  # has 16 values a channel of one image
