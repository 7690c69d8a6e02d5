"""MuonAdamW and SAM: their steps, and what they are combined with."""

from pathlib import Path
from typing import Any

import pytest
import torch
from fast_example import assert_same, train
from lightning.pytorch import Callback, seed_everything
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from task_example import light, quick_trainer
from tiny import TinyDataModule, TinyNetwork
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD, AdamW, Muon, Optimizer

from kd_lightning.errors import UserError
from kd_lightning.losses import CRD, CrossEntropy
from kd_lightning.tasks import Classifier, Distill
from kd_lightning.tasks.muon import MuonAdamW
from kd_lightning.tasks.sam import SAM
from kd_lightning.tasks.schedules import OneCycle
from kd_lightning.teacher import Teacher


def descend(optimizer: Optimizer, *parameters: nn.Parameter) -> None:
    """Take three steps by fixed gradients."""
    generator = torch.Generator().manual_seed(3)
    for _ in range(3):
        for values in parameters:
            values.grad = torch.randn(values.shape, generator=generator)
        optimizer.step()


def drawn(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(len(shape))))


def test_a_matrix_is_trained_as_by_torchs_muon_and_a_vector_as_by_adamw() -> None:
    ours, theirs = [drawn(6, 4), drawn(5), drawn(1, 3, 4)], [drawn(6, 4), drawn(5), drawn(1, 3, 4)]
    descend(MuonAdamW(ours, lr=0.01, weight_decay=0.1), *ours)
    muon = Muon(theirs[:1], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    generator = torch.Generator().manual_seed(3)
    adamw = AdamW(theirs[1:], lr=0.01, weight_decay=0.1)
    for _ in range(3):
        for values in theirs:
            values.grad = torch.randn(values.shape, generator=generator)
        muon.step()
        adamw.step()
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_a_re_parameterized_convolutions_inner_factor_is_trained_as_a_matrix() -> None:
    factor, matrix = drawn(8, 9, 6), nn.Parameter(drawn(8, 9, 6).detach().flatten(1))
    descend(MuonAdamW([factor]), factor)
    descend(MuonAdamW([matrix]), matrix)
    assert torch.equal(factor.flatten(1), matrix)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_convolution_is_trained_as_a_matrix_of_a_row_an_output_channel(memory_format: torch.memory_format) -> None:
    convolution, matrix = drawn(8, 3, 5, 5), nn.Parameter(drawn(8, 3, 5, 5).detach().flatten(1))
    convolution.data = convolution.data.contiguous(memory_format=memory_format)
    descend(MuonAdamW([convolution]), convolution)
    descend(MuonAdamW([matrix]), matrix)
    assert torch.equal(convolution.flatten(1), matrix)


def muon(parameters: Any) -> MuonAdamW:
    return MuonAdamW(parameters, lr=0.01)


def sam(parameters: Any) -> SAM:
    return SAM(parameters, lr=0.05)


@pytest.mark.parametrize("optimizer", [muon, sam])
@pytest.mark.parametrize("reparameterize", [0, 2])
def test_a_resumed_run_ends_as_an_undisturbed_one(optimizer: Any, reparameterize: int, tmp_path: Path) -> None:
    def run(ckpt: Path | None, *callbacks: Callback) -> Classifier:
        seed_everything(0)
        task = Classifier(light(), optimizer=optimizer, lr_scheduler=OneCycle, reparameterize=reparameterize)
        trainer = quick_trainer(2, callbacks=list(callbacks), enable_checkpointing=ckpt is None)
        trainer.fit(task, datamodule=TinyDataModule(), ckpt_path=ckpt, weights_only=True)
        return task

    saved = ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1)
    whole = run(None, EMAWeightAveraging(), saved)
    resumed = run(tmp_path / "epoch=0.ckpt", EMAWeightAveraging())
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def test_the_fast_path_takes_the_same_steps_of_muon() -> None:
    def make(fast: bool) -> Classifier:
        return Classifier(light(), optimizer=muon, lr_scheduler=OneCycle, fast=fast)

    assert_same(train(make, False), train(make, True))


def test_sam_takes_the_gradient_at_the_moved_weights() -> None:
    weights, expected = drawn(3, 2), drawn(3, 2)
    images, labels = torch.randn(5, 2), torch.tensor([0, 1, 2, 0, 1])

    def loss(values: Tensor) -> Tensor:
        return functional.cross_entropy(images @ values.T, labels)

    def closure() -> Tensor:
        weights.grad = None
        value = loss(weights)
        value.backward()
        return value

    first = SAM([weights], lr=0.5, momentum=0, weight_decay=0, rho=0.2).step(closure)
    (gradient,) = torch.autograd.grad(loss(expected), expected)
    moved = (expected + 0.2 * gradient / gradient.norm()).detach().requires_grad_()
    assert torch.equal(first, loss(expected))
    (there,) = torch.autograd.grad(loss(moved), moved)
    torch.testing.assert_close(weights, expected - 0.5 * there)


def test_the_second_pass_leaves_nothing_but_gradients() -> None:
    """Metrics, averages of batch normalization and a loss's memory are those of one step of SGD."""
    kept = []
    for optimizer in (sam, lambda p: SGD(p, lr=0.05, momentum=0.9, weight_decay=5e-4)):
        seed_everything(0)
        losses = {"labels": CrossEntropy(), "crd": CRD(student="features", teacher="features", negatives=8)}
        task = Distill(TinyNetwork(), Teacher(TinyNetwork(width=6)), losses, optimizer=optimizer)
        trainer = quick_trainer(max_steps=1, limit_val_batches=0)
        trainer.fit(task, datamodule=TinyDataModule())
        kept.append((dict(task.network.named_buffers()), dict(task.losses.named_buffers()), trainer.callback_metrics))
    for mine, theirs in zip(*kept, strict=True):
        assert mine.keys() == theirs.keys()
        assert mine
        assert all(torch.equal(torch.as_tensor(mine[name]), torch.as_tensor(theirs[name])) for name in mine)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"accumulate_grad_batches": 2}, "SAM computes the gradients of a batch twice.*accumulate_grad_batches 1"),
        ({"fast": True}, "--model.fast is true, but SAM computes the gradients twice in a step"),
    ],
)
def test_sam_refuses_what_leaves_no_second_pass(options: dict[str, Any], message: str) -> None:
    fast = options.pop("fast", False)
    with pytest.raises(UserError, match=message):
        train(lambda fast: Classifier(light(), optimizer=sam, fast=fast), fast, **options)
    with pytest.raises(UserError, match=r"--model\.optimizer\.rho is 0"):
        SAM([drawn(2)], rho=0)
