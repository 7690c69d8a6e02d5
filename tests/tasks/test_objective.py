"""Losses with buffers of each image: resumed, measured, and compared with the data."""

from pathlib import Path
from typing import Any

import pytest
import torch
from fast_example import train
from task_example import SaveAt, quick_trainer
from tiny import TinyDataModule

from kd_lightning.errors import UserError
from kd_lightning.losses import CRD, CrossEntropy
from kd_lightning.networks import DeepNN, LightNN
from kd_lightning.tasks import Distill
from kd_lightning.teacher import Teacher

DATA: dict[str, Any] = {"count": 64, "val_size": 0.25, "normalize": "imagenet"}  # 3 steps an epoch


def contrast(fast: bool, weight: float = 0.8) -> Distill:
    torch.manual_seed(1)
    crd = CRD("classifier.1", negatives=20, dimensions=8, weight=weight)
    return Distill(LightNN(4, 3, 8), Teacher(DeepNN(4, 3, 8)), {"labels": CrossEntropy(), "crd": crd}, fast=fast)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Distill, Path]:
    """A run of three epochs, and its checkpoint from the middle of the second."""
    path = tmp_path_factory.mktemp("run") / "middle.ckpt"
    return train(contrast, False, DATA, max_epochs=3, callbacks=[SaveAt(4, path)])[1], path  # type: ignore[return-value]


@pytest.mark.parametrize("fast", [False, True], ids=["Lightning's loop", "fast path"])
def test_a_resumed_memory_is_that_of_an_undisturbed_run(run: tuple[Distill, Path], fast: bool) -> None:
    whole, path = run
    resumed = train(contrast, fast, DATA, path, max_epochs=3)[1]
    assert whole.losses["crd"].batches == 9
    for name, values in whole.state_dict().items():
        assert torch.equal(values, resumed.state_dict()[name]), name


def test_a_checkpoint_with_a_memory_is_measured_and_loaded_without_its_training_images(
    run: tuple[Distill, Path],
) -> None:
    _, path = run
    task = contrast(fast=False)
    (measured,) = quick_trainer().test(task, TinyDataModule(**DATA), path, verbose=False)
    saved = torch.load(path, weights_only=True)["state_dict"]
    assert torch.equal(task.losses["crd"].student_memory, saved["losses.crd.student_memory"])  # type: ignore[arg-type]
    assert measured["test/crd"] > 0


def test_a_memory_of_other_images_is_refused(run: tuple[Distill, Path]) -> None:
    with pytest.raises(UserError, match="something of each of 64 images, but the data has 65"):
        train(contrast, False, {**DATA, "count": 65}, run[1], max_epochs=3)


def test_a_second_fit_begins_with_a_memory_of_its_own() -> None:
    task = contrast(fast=False)
    for _ in range(2):
        quick_trainer(limit_train_batches=1, limit_val_batches=0).fit(task, TinyDataModule(**DATA))
        assert task.losses["crd"].batches == 1
