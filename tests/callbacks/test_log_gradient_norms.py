from pathlib import Path
from typing import Any

import pytest
import torch
from fast_example import Log
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.plugins.precision import MixedPrecision
from task_example import quick_trainer
from tiny import TinyDataModule, TinyNetwork
from torch import Tensor, nn

from kd_lightning.callbacks import LogGradientNorms
from kd_lightning.data.augment import HorizontalFlip
from kd_lightning.data.loader import Batch
from kd_lightning.errors import UserError
from kd_lightning.fast.callback import TrainAhead
from kd_lightning.losses import CrossEntropy, FeatureRegression, Loss, SoftTargets, Targets
from kd_lightning.networks.layers import Outputs
from kd_lightning.tasks import Classifier, Distill
from kd_lightning.teacher import AnyTeacher, Teacher


class Memory(Loss):
    """Pulls logits to what a memory, which every step changes, holds of earlier images."""

    works_with_fast_path = True
    memory: Tensor

    def start(self, images: int, labels: Tensor | None) -> None:
        self.register_buffer("memory", torch.zeros(images, 4))

    def forward(self, student: Outputs, target: Targets, batch: Batch) -> Tensor:
        logits = student.logits.float()
        loss = (logits - self.memory[batch.rows]).square().mean()
        self.memory[batch.rows] = 0.5 * logits.detach() + 0.5 * torch.rand_like(logits)
        return loss


class Constant(Loss):
    """Has no gradient."""

    def forward(self, student: Outputs, target: Targets, batch: Batch) -> Tensor:
        return torch.ones(())


class WithDropout(TinyNetwork):
    """Batch normalization, and dropout after it."""

    works_with_fast_path = True

    def __init__(self, **options: int) -> None:
        super().__init__(**options)
        self.features.append(nn.Dropout(0.2))


def distill(network: TinyNetwork, teacher: AnyTeacher | None = None, **options: Any) -> Distill:
    losses: dict[str, Loss] = {
        "labels": CrossEntropy(weight=0.1),
        "kd": SoftTargets(warm_up=2),
        "memory": Memory(),
        "maps": FeatureRegression("features", projector="3x3 normalized", weight=3),
    }
    return Distill(network, teacher or Teacher(TinyNetwork(width=6)), losses, **options)


def fit(
    network: type[TinyNetwork], *callbacks: Callback, fast: bool = False, **options: Any
) -> tuple[Trainer, Distill]:
    seed_everything(0, verbose=False)
    task = distill(network(), fast=fast)
    trainer = quick_trainer(2, callbacks=[TrainAhead(), *callbacks], **options)
    trainer.fit(task, datamodule=TinyDataModule(count=80, batch_size=16, augment=[HorizontalFlip()]))
    return trainer, task


def half_precision() -> MixedPrecision:
    """Return float16 with scaled gradients; the scale is low enough for the first step."""
    return MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2**12))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"fast": True},
        {"precision": "16"},
        {"accumulate_grad_batches": 2, "gradient_clip_val": 0.5},
    ],
    ids=str,
)
def test_training_is_the_same_to_the_last_bit_where_norms_are_measured(options: dict[str, Any]) -> None:
    def trained(*callbacks: Callback) -> tuple[dict[str, Any], dict[str, Any], Tensor]:
        more = (
            {**options, "precision": None, "plugins": half_precision()} if options.get("precision") == "16" else options
        )
        trainer, task = fit(WithDropout, *callbacks, **more)
        losses = {name: value for name, value in trainer.callback_metrics.items() if "grad_norm" not in name}
        return {**task.state_dict(), **losses}, trainer.optimizers[0].state_dict(), torch.get_rng_state()

    (values, optimizer, state), (expected, others, undisturbed) = trained(LogGradientNorms(3)), trained()
    assert values.keys() == expected.keys()
    assert all(torch.equal(values[name], expected[name]) for name in values)
    for own, other in zip(optimizer["state"].values(), others["state"].values(), strict=True):
        assert all(torch.equal(own[name], other[name]) for name in own)
    assert torch.equal(state, undisturbed)


class Twin(Callback):
    """Runs a backward pass of each loss on a copy of the network, and keeps the gradients' norms by step."""

    def __init__(self) -> None:
        self.norms: dict[int, dict[str, float]] = {}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        assert isinstance(pl_module, Distill)
        if trainer.global_step % 3 or trainer.global_step in self.norms:
            return
        weights = {"labels": 0.1, "kd": 0.9 * (trainer.current_epoch + 1) / 2, "memory": 1.0, "maps": 3.0}
        copy, norms = distill(TinyNetwork(), pl_module.teacher), {}
        copy.losses.named["memory"].start(80, None)
        copy.load_state_dict(pl_module.state_dict())
        losses = copy.step(batch).losses
        for name in (*weights, "loss"):
            copy.zero_grad()
            for own in weights if name == "loss" else [name]:
                (weights[own] * losses[own]).backward(retain_graph=True)
            gradients = [values.grad for values in copy.network.parameters() if values.grad is not None]
            norms[f"grad_norm/{name}"] = sum(float(values.double().square().sum()) for values in gradients) ** 0.5
        self.norms[trainer.global_step] = norms


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ({}, 1e-5),
        ({"plugins": half_precision()}, 6e-2),
        ({"accumulate_grad_batches": 2}, 1e-5),
    ],
    ids=["32", "16", "accumulated"],
)
def test_a_norm_is_that_of_the_weighted_loss_s_own_gradient_in_the_network(
    options: dict[str, Any], tolerance: float
) -> None:
    log, twin = Log(), Twin()
    fit(TinyNetwork, twin, LogGradientNorms(3), logger=log, **options)
    lines = [line for line in log.lines if "grad_norm/loss" in line[1]]
    assert len(lines) == len(twin.norms) > 1
    for step, norms in lines:
        assert step is not None
        assert norms == pytest.approx(twin.norms[step], rel=tolerance, abs=tolerance / 10)
    assert lines[0][1]["grad_norm/labels"] > 0.01


@pytest.mark.parametrize("fast", [False, True])
def test_norms_are_measured_in_the_requested_steps(fast: bool, captured_on_cpu: object) -> None:
    log = Log()
    fit(TinyNetwork, LogGradientNorms(3), fast=fast, logger=log)
    assert [step for step, values in log.lines if "grad_norm/kd" in values] == [0, 3, 6, 9]


def test_a_loss_without_a_gradient_has_a_norm_of_zero() -> None:
    log = Log()
    task = Distill(TinyNetwork(), Teacher(TinyNetwork()), {"ce": CrossEntropy(), "nothing": Constant(weight=0)})
    trainer = quick_trainer(callbacks=[LogGradientNorms()], logger=log, max_steps=1)
    trainer.fit(task, datamodule=TinyDataModule())
    assert log.lines[0][1]["grad_norm/nothing"] == 0
    assert log.lines[0][1]["grad_norm/ce"] == log.lines[0][1]["grad_norm/loss"] > 0


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="every_n_steps of LogGradientNorms is 0"):
        LogGradientNorms(0)
    with pytest.raises(UserError, match=r"--model\.compiled false"):
        quick_trainer(callbacks=[LogGradientNorms()]).fit(
            Classifier(TinyNetwork(), compiled=True), datamodule=TinyDataModule()
        )
