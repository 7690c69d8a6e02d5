from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.cli import ReduceLROnPlateau
from task_example import quick_trainer
from tiny import TinyDataModule, TinyNetwork
from torch.nn import functional

from kd_lightning.tasks import Classifier


def classifier(lr: float, **options: Any) -> Classifier:
    torch.manual_seed(0)
    return Classifier(TinyNetwork(), optimizer=lambda parameters: torch.optim.SGD(parameters, lr=lr), **options)


@pytest.mark.parametrize("eval_batch_size", [5, 1000])
def test_an_epochs_metrics_count_every_image_once_however_small_its_batch(eval_batch_size: int) -> None:
    task, data = classifier(lr=0.0), TinyDataModule(count=120, eval_batch_size=eval_batch_size)  # 12 images validate
    measured = quick_trainer().validate(task, datamodule=data, verbose=False)[0]
    images, rows = data.val_rows()
    with torch.no_grad():
        logits = task.eval()(data.normalization.apply(images.images[rows].permute(0, 3, 1, 2)))
    labels = images.labels[rows]
    assert measured["val/loss"] == measured["val/labels"]
    assert measured["val/loss"] == pytest.approx(float(functional.cross_entropy(logits, labels)), rel=1e-5)
    assert measured["val/accuracy"] == pytest.approx(float((logits.argmax(1) == labels).float().mean()))


def test_early_stopping_and_a_plateau_schedule_find_the_metrics_by_name() -> None:
    stop = EarlyStopping("train/loss", patience=2, mode="min", min_delta=1.0)
    task = classifier(
        lr=1e-3,
        lr_scheduler=lambda optimizer: ReduceLROnPlateau(
            optimizer, "val/loss", factor=0.5, patience=0, threshold=1.0, threshold_mode="abs"
        ),
    )
    fit = quick_trainer(10, callbacks=[stop])
    fit.fit(task, datamodule=TinyDataModule())
    assert fit.current_epoch == 3  # one epoch to be first, two without a gain of 1
    assert fit.optimizers[0].param_groups[0]["lr"] == 1e-3 * 0.5**2


def test_a_fit_after_one_that_broke_off_counts_from_nothing() -> None:
    class Stop(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            raise ZeroDivisionError

    task = classifier(lr=0.0)
    with pytest.raises(ZeroDivisionError):
        quick_trainer(callbacks=[Stop()]).fit(task, datamodule=TinyDataModule())
    again = quick_trainer()
    again.fit(task, datamodule=TinyDataModule())
    fresh = quick_trainer()
    fresh.fit(classifier(lr=0.0), datamodule=TinyDataModule())
    assert float(again.callback_metrics["train/accuracy"]) == float(fresh.callback_metrics["train/accuracy"])
