from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from tiny import TinyDataModule

from kd_lightning.data.loader import RawBatch
from kd_lightning.data.normalize import Normalization
from kd_lightning.errors import UserError
from kd_lightning.networks import LightNN
from kd_lightning.tasks import Classifier


def first_batch(data: TinyDataModule) -> RawBatch:
    return next(iter(data.train_dataloader()))


def test_training_and_validation_images_are_disjoint_and_test_images_untouched() -> None:
    data = TinyDataModule(count=100, val_size=0.2)
    (train, train_rows), (val, val_rows) = data.train_rows(), data.val_rows()
    assert train is val is data.split("train")
    assert len(train_rows) == 80
    assert not set(train_rows.tolist()) & set(val_rows.tolist())
    assert len(data.test_rows()[1]) == 100


def test_images_are_normalized_on_the_device_to_mean_zero_and_deviation_one() -> None:
    data = TinyDataModule(count=400, val_size=0, batch_size=400)
    images = data.on_after_batch_transfer(first_batch(data), 0).images
    assert images.shape == (400, 3, 8, 8)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(images.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(images.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-4)


def test_a_given_normalization_is_used_and_one_for_other_channels_refused() -> None:
    data = TinyDataModule(normalize=Normalization((0.5,) * 3, (0.25,) * 3))
    batch = first_batch(data)
    expected = (batch.images.permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    assert torch.allclose(data.on_after_batch_transfer(batch, 0).images, expected, atol=1e-5)
    with pytest.raises(UserError, match=r"3 channel\(s\), but the normalization 1"):
        _ = TinyDataModule(normalize=Normalization((0.5,), (0.25,))).normalization


@pytest.mark.parametrize("arguments", [{"batch_size": 0}, {"eval_batch_size": 0}, {"val_size": -1}])
def test_values_out_of_range_are_refused(arguments: dict[str, int]) -> None:
    [name] = arguments
    with pytest.raises(UserError, match=rf"^{name} .*must be .* set --data\.{name}\.$"):
        TinyDataModule(**arguments)  # type: ignore[arg-type]


def test_a_network_for_other_data_is_refused_before_training() -> None:
    trainer = Trainer(max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    with pytest.raises(UserError, match="num_classes of the network is 10, of the data 4"):
        trainer.fit(Classifier(LightNN(image_size=8)), datamodule=TinyDataModule())


def test_large_images_are_evaluated_in_small_batches_so_that_memory_is_the_same() -> None:
    def batch_size(image_size: int, **options: int) -> int:
        data = TinyDataModule(**options)  # type: ignore[arg-type]
        data.image_size = image_size
        return data.test_dataloader().batch_size

    assert batch_size(32) == 1000
    assert batch_size(320) == 10
    assert batch_size(10_000) == 1
    assert batch_size(320, eval_batch_size=7) == 7


@pytest.mark.parametrize(("data", "kind"), [({"val_size": 1}, "1 validation image"), ({"count": 1}, "1 test image")])
def test_processes_that_would_get_no_image_are_refused(data: dict[str, Any], kind: str) -> None:
    module = TinyDataModule(**data)
    module.trainer = SimpleNamespace(global_rank=1, world_size=2, overfit_batches=0.0)  # type: ignore[assignment]
    with pytest.raises(UserError, match=f"2 processes cannot share {kind}; set --trainer.devices"):
        module.val_dataloader() if "val_size" in data else module.test_dataloader()


@pytest.mark.parametrize("world_size", [1, 2])
def test_a_split_without_an_image_is_reported_as_that_and_not_as_too_many_processes(world_size: int) -> None:
    module = TinyDataModule()
    module.trainer = SimpleNamespace(global_rank=0, world_size=world_size, overfit_batches=0.0)  # type: ignore[assignment]
    module.test_rows = lambda: (module.split("test"), torch.empty(0, dtype=torch.int64))  # type: ignore[method-assign]
    with pytest.raises(UserError, match=r"^there is no test image; give --data some\.$"):
        module.test_dataloader()
