"""An ended run is resumed: callbacks change the weights at its end again."""

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from threading import Lock
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import (
    EMAWeightAveraging,
    ModelCheckpoint,
    ModelPruning,
    StochasticWeightAveraging,
)
from task_example import SaveAt, quick_trainer
from tiny import TinyDataModule, TinyNetwork
from torch import Tensor
from torch.optim import Adam
from training_example import NO_EXPORT, fit

from kd_lightning.callbacks import SaveWeights
from kd_lightning.errors import UserError
from kd_lightning.networks import LightNN
from kd_lightning.networks.read_back import ReadBackError
from kd_lightning.networks.weights import load_model, read_weights
from kd_lightning.tasks import Classifier

RUNS = Path("lightning_logs/student")


class Halve(Callback):
    """Changes the weights when training ends, and keeps nothing."""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for values in pl_module.parameters():
            values.data.mul_(0.5)


class LastWeights(Callback):
    """Swaps in what it has kept; its own state needs the start of training."""

    def __init__(self) -> None:
        self.kept: dict[str, Tensor] = {}
        self.network: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.network = pl_module.network

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == 2:
            self.kept = {name: values.clone() for name, values in self.network.state_dict().items()}

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.network.load_state_dict(self.kept)

    def state_dict(self) -> dict[str, Any]:
        return self.kept

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.kept = state_dict


CALLBACKS: dict[str, Callable[[], Callback]] = {
    "ema": lambda: EMAWeightAveraging(decay=0.5),
    "swa": lambda: StochasticWeightAveraging(0.01),
    "pruned": lambda: ModelPruning("l1_unstructured", amount=0.5),
    "halved": Halve,
    "kept": LastWeights,
}


def trained(factor: int, *callbacks: Callback, norm: bool = False, checkpoint: Path | None = None) -> Classifier:
    torch.manual_seed(0)
    network = TinyNetwork() if norm else LightNN(4, 3, 8)
    task = Classifier(network, reparameterize=factor, optimizer=lambda parameters: Adam(parameters, lr=0.02))
    trainer = quick_trainer(2, callbacks=[*callbacks], enable_checkpointing=checkpoint is None)
    trainer.fit(task, datamodule=TinyDataModule(count=96), ckpt_path=checkpoint)
    return task


def saved(folder: Path) -> ModelCheckpoint:
    return ModelCheckpoint(folder, filename="last", save_on_train_epoch_end=True)


def assert_same_network(first: Classifier, second: Classifier) -> None:
    expected, found = first.network.state_dict(), second.network.state_dict()
    assert all(torch.equal(found[name], values) for name, values in expected.items())


@pytest.mark.parametrize(
    ("name", "factor", "norm"),
    [
        *((name, 0, False) for name in CALLBACKS),
        ("ema", 4, False),
        ("swa", 4, False),
        ("swa", 0, True),
        ("ema", 0, True),
    ],
)
def test_an_ended_run_gives_its_last_weights_again_bit_for_bit(
    name: str, factor: int, norm: bool, tmp_path: Path
) -> None:
    whole = trained(factor, CALLBACKS[name](), saved(tmp_path), norm=norm)
    again = trained(factor, CALLBACKS[name](), norm=norm, checkpoint=tmp_path / "last.ckpt")
    assert_same_network(whole, again)
    if not norm and name not in ("pruned", "swa"):
        raw = trained(factor, norm=norm)
        assert not torch.equal(next(raw.parameters()), next(whole.parameters()))


def assert_same_files() -> None:
    first, second = (read_weights(RUNS / run / "net.pth")[0] for run in ("version_0", "version_1"))
    assert all(torch.equal(values, second[name]) for name, values in first.items())


OPTIONS = ("--model.network=LightNN", "--model.optimizer=Adam", "--model.optimizer.lr=0.02", "--files.weights=net.pth")


def test_the_command_that_resumes_an_ended_run_tests_and_writes_its_results(temp_folder: Path) -> None:
    callback = "{class_path: EMAWeightAveraging, init_args: {decay: 0.5}}"
    options = (*OPTIONS, NO_EXPORT, "--model.reparameterize=4", f"--trainer.callbacks=[{callback}]")
    fit("student.yaml", *options)
    fit("student.yaml", *options, "--ckpt_path=last")
    first, second = (json.loads((RUNS / run / "summary.json").read_text()) for run in ("version_0", "version_1"))
    assert second["metrics"]["test/accuracy"] == first["metrics"]["test/accuracy"]
    assert second["metrics"]["test/loss"] == first["metrics"]["test/loss"]
    assert_same_files()


def test_the_last_checkpoint_gives_what_the_end_of_training_made_of_the_weights(temp_folder: Path) -> None:
    options = (*OPTIONS, NO_EXPORT, "--trainer.callbacks=[test_resumed_end.Halve]")
    run = fit("student.yaml", *options)
    checkpoint = RUNS / "version_0/checkpoints/last.ckpt"
    images = torch.randn(3, 3, 8, 8)
    assert torch.equal(load_model(checkpoint)[0].to_channels_last()(images), run.model.eval()(images))
    fit("student.yaml", *options, f"--ckpt_path={checkpoint}")  # it halves them no second time
    assert_same_files()
    with pytest.raises(UserError, match="a callback had changed the weights, so training cannot resume"):
        fit("student.yaml", *options, f"--ckpt_path={checkpoint}", "--trainer.max_epochs=3")


def test_a_run_whose_weights_are_not_its_network_is_tested_and_fails_without_a_file(temp_folder: Path) -> None:
    network = (
        "--model.network=ModuleNetwork",
        "--model.network.module=odd_networks.Annealed",
        "--files.weights=net.pth",
    )
    with pytest.raises(ReadBackError, match="Annealed gives other logits when it is read from its own weights"):
        fit("student.yaml", *network)
    folder = RUNS / "version_0"
    assert not [path.name for path in folder.rglob("*") if path.suffix in (".pth", ".onnx")]
    assert "test/accuracy" in json.loads((folder / "summary.json").read_text())["metrics"]
    for name in ("last", "best"):
        with pytest.raises(UserError, match="cannot be used without its run: Annealed gives other logits"):
            load_model(folder / "checkpoints" / f"{name}.ckpt", "odd_networks.Annealed")


def test_files_of_the_users_own_trainer_are_those_of_the_end_too(tmp_path: Path) -> None:
    whole = trained(0, EMAWeightAveraging(decay=0.5), saved(tmp_path))
    torch.manual_seed(0)
    task = Classifier(LightNN(4, 3, 8), optimizer=lambda parameters: Adam(parameters, lr=0.02))
    callbacks = [EMAWeightAveraging(decay=0.5), SaveWeights("net.pth")]
    trainer = quick_trainer(2, callbacks=callbacks, default_root_dir=tmp_path)
    trainer.fit(task, datamodule=TinyDataModule(count=96), ckpt_path=tmp_path / "last.ckpt")
    weights, _ = read_weights(tmp_path / "net.pth")
    assert all(torch.equal(weights[name], values) for name, values in whole.network.state_dict().items())


def test_what_cannot_resume_or_would_not_be_the_network_is_refused_in_one_sentence(tmp_path: Path) -> None:
    kept = ModelPruning("l1_unstructured", amount=0.5, make_pruning_permanent=False)
    with pytest.raises(UserError, match="set make_pruning_permanent true"):
        trained(0, kept)
    with pytest.raises(UserError, match="would prune the re-parameterized network and not the fused one"):
        trained(4, CALLBACKS["pruned"]())
    trained(0, StochasticWeightAveraging(0.01, swa_epoch_start=1), SaveAt(7, tmp_path / "mid.ckpt"), norm=True)
    with pytest.raises(UserError, match="renewed the statistics of BatchNorm, in the pass after the last epoch"):
        trained(0, StochasticWeightAveraging(0.01, swa_epoch_start=1), norm=True, checkpoint=tmp_path / "mid.ckpt")


def test_a_checkpoint_without_the_state_of_a_run_is_measured_but_not_resumed(tmp_path: Path) -> None:
    path = tmp_path / "old.ckpt"
    task = trained(0, SaveAt(3, path))
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["callbacks"]["Resume"]  # as in those of earlier versions
    torch.save(checkpoint, path)
    quick_trainer().test(task, TinyDataModule(count=96), path, verbose=False)
    with pytest.raises(UserError, match=r"old\.ckpt does not contain the state of a run, or another version"):
        trained(0, checkpoint=path)


def test_a_trained_task_is_copied_without_its_trainer() -> None:
    """StochasticWeightAveraging copies it when it is tested; several processes' trainer cannot be copied."""
    task = trained(4)
    task.trainer.cannot_be_copied = Lock()  # type: ignore[attr-defined]
    assert_same_network(task, deepcopy(task))
