"""A fit whose numbers are no longer finite stops there and leaves nothing that looks like a result."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import ModelCheckpoint
from task_example import quick_trainer
from tiny import TinyDataModule, TinyNetwork
from torch.optim import SGD

from kd_lightning.callbacks.finite_values import FiniteValues
from kd_lightning.cli import main
from kd_lightning.data.loader import Batch
from kd_lightning.errors import UserError
from kd_lightning.fast.callback import TrainAhead
from kd_lightning.tasks import Classifier
from kd_lightning.tasks.step import Step


class Breaks(Classifier):
    """Its cross-entropy is NaN in a step."""

    works_with_fast_path = True

    def __init__(self, step: int, **options: Any) -> None:
        super().__init__(TinyNetwork(), optimizer=lambda p: SGD(p, lr=0.5, fused=True), **options)
        self.breaks = torch.tensor(step)

    def step(self, batch: Batch) -> Step:
        """Break one batch, as a captured step can do it."""
        step = super().step(batch)
        counter = next(values for name, values in self.network.named_buffers() if "num_batches" in name)
        broken = (counter == self.breaks + 1) if self.training else torch.tensor(False)
        loss = torch.where(broken, torch.nan, step.loss)
        return step._replace(loss=loss, losses={"labels": loss})


def fit(task: Classifier, *callbacks: Callback) -> None:
    trainer = quick_trainer(epochs=3, enable_checkpointing=bool(callbacks), callbacks=[TrainAhead(), *callbacks])
    trainer.fit(task, datamodule=TinyDataModule(count=120, batch_size=8))  # 14 steps an epoch


@pytest.mark.parametrize("fast", [False, True])
def test_the_step_the_term_and_the_rate_are_named_and_the_checkpoint_before_stays(fast: bool, tmp_path: Path) -> None:
    last = ModelCheckpoint(tmp_path, filename="last", save_on_train_epoch_end=True, enable_version_counter=False)
    message = rf"labels' is not .* in step 19 of epoch 1, at a learning rate of 0.5, .* is {last.dirpath}/last.ckpt\."
    with pytest.raises(UserError, match=message):
        fit(Breaks(19, fast=fast), last)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 14
    assert all(values.isfinite().all() for values in saved["state_dict"].values())


def test_losses_that_wait_to_be_checked_stop_a_fit_before_its_next_checkpoint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    start = FiniteValues.on_train_start

    def patient(values: FiniteValues, *args: Any) -> None:
        start(values, *args)
        values._limit = 100  # as on a GPU

    monkeypatch.setattr(FiniteValues, "on_train_start", patient)
    every = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=4, save_top_k=-1)
    with pytest.raises(UserError, match="labels' is not a finite number in step 19 of epoch 1"):
        fit(Breaks(19, fast=False), every)
    assert {path.stem for path in tmp_path.iterdir()} == {"step=4", "step=8", "step=12", "step=16"}


def test_a_captured_step_names_the_step_too(captured_on_cpu: object) -> None:
    with pytest.raises(UserError, match="labels' is not a finite number in step 19 of epoch 1"):
        fit(Breaks(19, fast=True))


def test_a_first_loss_that_is_not_finite_is_not_the_learning_rates_fault() -> None:
    with pytest.raises(UserError, match="in step 0 of epoch 0, before anything was trained"):
        fit(Breaks(0))


class BreakWeights(Callback):
    """Leaves weights that are not finite."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Break a weight after the last step of the epoch."""
        if trainer.current_epoch == self.epoch:
            next(pl_module.network.parameters()).data[0, 0, 0, 0] = torch.inf


def test_weights_are_checked_where_no_loss_shows_that_they_are_broken(tmp_path: Path) -> None:
    last = ModelCheckpoint(tmp_path, filename="last", enable_version_counter=False, save_on_train_epoch_end=True)
    trainer = quick_trainer(epochs=2, enable_checkpointing=True, callbacks=[BreakWeights(1), last])
    with pytest.raises(UserError, match="the trained weights are not finite numbers after step 7"):
        trainer.fit(Classifier(TinyNetwork()), datamodule=TinyDataModule(val_size=0))
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 0


class BreaksEvaluation(Classifier):
    """Its loss is infinite where it does not train."""

    def step(self, batch: Batch) -> Step:
        """Break what is evaluated."""
        step = super().step(batch)
        return step if self.training else step._replace(losses={"labels": step.loss + torch.inf})


def test_losses_on_validation_and_test_images_are_checked_before_anything_is_chosen_by_them(tmp_path: Path) -> None:
    best = ModelCheckpoint(tmp_path, filename="best", monitor="val/accuracy", mode="max")
    trainer = quick_trainer(enable_checkpointing=True, callbacks=[best])
    task, data = BreaksEvaluation(TinyNetwork()), TinyDataModule()
    with pytest.raises(UserError, match="val/labels is not a finite number after step 3, at"):
        trainer.fit(task, datamodule=data)
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match="test/labels is not a finite number, so the measured network"):
        quick_trainer().test(task, datamodule=data)


def test_a_run_that_diverges_leaves_no_results(temp_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = ["--data=tiny.TinyDataModule", "--data.batch_size=16"]
    trainer = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--files.onnx=null"]
    assert main(["fit", "--config=student.yaml", *data, *trainer, "--model.optimizer.lr=1e10"]) == 2
    error = capsys.readouterr().err
    what = r"error: the loss 'labels' is not a finite number in step \d of epoch 0, at a learning rate of 1e\+10, and"
    assert re.match(what, error), error
    assert error.count("\n") == 1
    names = {path.name for path in Path("lightning_logs/student/version_0").rglob("*")}
    assert not [name for name in names if name.endswith((".pth", ".ckpt")) or name.startswith("summary")]
