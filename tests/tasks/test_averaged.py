"""Averages of the weights by Lightning's own callback: what is measured, saved and resumed from is the average."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from fast_example import GPU
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from task_example import quick_trainer
from tiny import TinyDataModule, TinyNetwork
from torch import Tensor
from torch.optim import Adam
from training_example import NO_EXPORT, fit

from kd_lightning.errors import UserError
from kd_lightning.losses import CRD, CrossEntropy, SoftTargets
from kd_lightning.networks import ModuleNetwork
from kd_lightning.networks.weights import read_weights
from kd_lightning.tasks import Classifier, Distill
from kd_lightning.teacher import Teacher

AVERAGE = "{class_path: EMAWeightAveraging, init_args: {decay: 0.5}}"
OPTIONS = ("--model.network=tiny.TinyNetwork", "--model.optimizer.lr=0.02", NO_EXPORT, "--files.weights=net.pth")
RUNS = Path("lightning_logs/student")


class Steps(Callback):
    """Keeps the network after each step."""

    def __init__(self) -> None:
        self.networks: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        assert isinstance(pl_module, Classifier)
        self.networks.append({name: values.clone() for name, values in pl_module.network.state_dict().items()})


def test_what_is_validated_saved_and_exported_is_the_average(temp_folder: Path) -> None:
    run = fit("student.yaml", *OPTIONS, f"--trainer.callbacks=[test_averaged.Steps, {AVERAGE}]")
    steps = next(callback for callback in run.trainer.callbacks if type(callback).__name__ == "Steps").networks
    average = {name: values for name, values in steps[0].items() if values.is_floating_point()}
    for network in steps[1:]:
        average = {name: (values + network[name]) / 2 for name, values in average.items()}
    weights, _ = read_weights(RUNS / "version_0/net.pth")
    checkpoint = torch.load(RUNS / "version_0/checkpoints/last.ckpt", weights_only=True)
    for name, values in average.items():
        assert torch.allclose(weights[name], values, atol=1e-6), name
        assert torch.equal(weights[name], checkpoint["state_dict"][f"network.{name}"]), name
    assert not torch.allclose(weights["head.weight"], steps[-1]["head.weight"], atol=1e-4)
    seen = json.loads((RUNS / "version_0/summary.json").read_text())["metrics"]
    measured = quick_trainer().validate(run.model, datamodule=run.datamodule, verbose=False)
    assert measured[0]["val/labels"] == pytest.approx(seen["val/labels"], rel=1e-5)


def test_a_resumed_run_continues_with_the_weights_and_with_their_average(tmp_path: Path) -> None:
    def trained(*callbacks: Callback, checkpoint: Path | None = None) -> Classifier:
        torch.manual_seed(0)
        task = Classifier(TinyNetwork(), optimizer=lambda parameters: Adam(parameters, lr=0.02))
        trainer = quick_trainer(3, callbacks=[*callbacks], enable_checkpointing=checkpoint is None)
        trainer.fit(task, datamodule=TinyDataModule(), ckpt_path=checkpoint)
        return task

    saved = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    whole = trained(EMAWeightAveraging(decay=0.5), saved)
    resumed = trained(EMAWeightAveraging(decay=0.5), checkpoint=tmp_path / "epoch=1.ckpt")
    for mine, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(mine, other)
    with pytest.raises(
        UserError, match="averages its weights, and contains the average in their place; add the callback"
    ):
        trained(checkpoint=tmp_path / "epoch=1.ckpt")


def test_losses_have_their_epochs_weights_in_a_fit_and_full_weights_in_a_test() -> None:
    losses = {"labels": CrossEntropy(weight=0.5), "kd": SoftTargets(weight=8.0, warm_up=4)}
    task = Distill(TinyNetwork(), Teacher(TinyNetwork()), losses)
    trainer = quick_trainer(2, callbacks=[EMAWeightAveraging(decay=0.5)])
    trainer.fit(task, datamodule=TinyDataModule(val_size=0.2))
    seen = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert seen["val/loss"] == pytest.approx(0.5 * seen["val/labels"] + 4.0 * seen["val/kd"], rel=1e-5)
    assert seen["train/loss"] == pytest.approx(0.5 * seen["train/labels"] + 4.0 * seen["train/kd"], rel=1e-5)
    for fitted in (trainer, quick_trainer()):
        [tested] = fitted.test(task, datamodule=TinyDataModule(), verbose=False)
        assert tested["test/loss"] == pytest.approx(0.5 * tested["test/labels"] + 8.0 * tested["test/kd"], rel=1e-5)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"update_starting_at_step": 4}, "begins at step 4, but the run has 4, so that an untrained network"),
        (
            {"use_buffers": False},
            r"leaves out what is not a parameter, such as features\.1\.running_mean of TinyNetwork, so",
        ),
    ],
)
def test_an_average_without_effect_is_refused(options: dict[str, Any], reason: str) -> None:
    trainer = quick_trainer(callbacks=[EMAWeightAveraging(**options)])
    with pytest.raises(UserError, match=reason):
        trainer.fit(Classifier(TinyNetwork()), datamodule=TinyDataModule())


@GPU
def test_an_average_is_on_the_gpu_where_the_weights_are() -> None:
    average = EMAWeightAveraging()
    trainer = quick_trainer(callbacks=[average], accelerator="gpu", devices=1)
    trainer.fit(Classifier(TinyNetwork()), datamodule=TinyDataModule())
    assert average._average_model is not None
    assert {values.device.type for values in average._average_model.parameters()} == {"cuda"}


def test_crd_is_averaged_with_its_memory_and_resumes_unchanged(tmp_path: Path) -> None:
    def trained(*callbacks: Callback, checkpoint: Path | None = None) -> Distill:
        torch.manual_seed(0)
        losses = {"labels": CrossEntropy(), "crd": CRD("features.2", dimensions=8, negatives=16)}
        task = Distill(TinyNetwork(), Teacher(TinyNetwork()), losses, optimizer=lambda p: Adam(p, lr=0.02))
        trainer = quick_trainer(2, callbacks=[*callbacks], enable_checkpointing=checkpoint is None)
        trainer.fit(task, datamodule=TinyDataModule(), ckpt_path=checkpoint)
        return task

    saved = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
    whole = trained(EMAWeightAveraging(decay=0.5), saved)
    assert whole.state_dict()["losses.crd.student_memory"].shape == (120, 8)
    for epoch in (0, 1):
        resumed = trained(EMAWeightAveraging(decay=0.5), checkpoint=tmp_path / f"epoch={epoch}.ckpt")
        for name, values in whole.state_dict().items():
            assert torch.equal(resumed.state_dict()[name], values), name


@pytest.mark.parametrize("name", ["WeightNormed", "SpectralNormed"])
def test_a_network_with_hooks_on_its_weights_is_averaged(name: str) -> None:
    task = Classifier(ModuleNetwork(4, 3, 8, f"odd_networks.{name}"), optimizer=lambda p: Adam(p, lr=0.02))
    average = EMAWeightAveraging(decay=0.5)
    quick_trainer(2, callbacks=[average]).fit(task, datamodule=TinyDataModule())
    assert average._average_model is not None
    found, expected = task.network.state_dict(), average._average_model.module.get_submodule("network").state_dict()
    assert all(torch.equal(found[key], values) for key, values in expected.items())
