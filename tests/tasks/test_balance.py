"""Weights by which losses on a teacher pull as hard as the labels."""

from functools import partial
from math import exp, log
from pathlib import Path
from typing import Any

import pytest
import torch
from fast_example import train
from recorded_graph import Captures
from task_example import SaveAt, quick_trainer
from tiny import TinyDataModule, TinyNetwork
from torch import Tensor
from torch.optim import SGD

from kd_lightning.callbacks.epoch_lines import start_line
from kd_lightning.data.augment import HorizontalFlip
from kd_lightning.errors import UserError
from kd_lightning.losses import CRD, CrossEntropy, FeatureRegression, LogitRegression, Loss, SoftTargets
from kd_lightning.tasks import Distill
from kd_lightning.tasks.balance import BATCHES
from kd_lightning.teacher import Teacher

DATA: dict[str, Any] = {"count": 150, "augment": [HorizontalFlip()]}


def distill(
    fast: bool,
    balance: float | None = 2.0,
    weights: dict[str, float] | None = None,
    kind: type[Distill] = Distill,
    **options: Any,
) -> Distill:
    torch.manual_seed(1)
    losses: dict[str, Loss] = {
        "labels": CrossEntropy(weight=0.1),
        "kd": SoftTargets(warm_up=2),
        "maps": FeatureRegression("features"),
        "memory": CRD("features", negatives=8, dimensions=4),
        "shown": LogitRegression(weight=0),
    }
    for name, weight in (weights or {}).items():
        losses[name].set_weight(weight)
    options = {"optimizer": lambda p: SGD(p, lr=2**-6, momentum=0.5, fused=True), **options}
    return kind(TinyNetwork(), Teacher(TinyNetwork(width=6)), losses, balance=balance, fast=fast, **options)


def weights_of(task: Any) -> dict[str, float]:
    return {name: loss.full_weight for name, loss in task.losses.named.items()}


def squares(values: Tensor, parameters: list[torch.nn.Parameter]) -> dict[int, float]:
    """Return the squared length of the gradient of each parameter that a loss reaches."""
    for part in parameters:
        part.grad = None
    values.backward(retain_graph=True)
    return {place: float(part.grad.square().sum()) for place, part in enumerate(parameters) if part.grad is not None}


def test_each_gradient_is_so_many_times_as_long_as_the_labels() -> None:
    weights = weights_of(train(distill, False, DATA, max_epochs=1)[1])
    assert weights["labels"] == 0.1
    assert weights["shown"] == 0

    class Measured(Distill):
        def prepare(self) -> None:
            parameters, logs = list(self.network.parameters()), dict[str, list[float]]()
            for _, raw in zip(range(BATCHES), self.data.train_dataloader(), strict=False):
                losses = self.step(self.data.on_after_batch_transfer(raw, 0)).losses
                labels = squares(0.1 * losses["labels"], parameters)
                for name in ("kd", "maps", "memory"):
                    own = squares(losses[name], parameters)
                    ratio = sum(own.values()) / sum(labels[place] for place in own)
                    logs.setdefault(name, []).append(log(ratio) / 2)
            measured.update({name: exp(-sum(found) / len(found)) for name, found in logs.items()})

    measured: dict[str, float] = {}
    train(lambda fast: distill(fast, None, kind=Measured), False, DATA, max_epochs=1)
    assert len(measured) == 3
    for name, weight in measured.items():
        assert weights[name] == pytest.approx(2 * weight, rel=1e-3), name


@pytest.mark.parametrize(
    ("cached", "fast", "options"),
    [
        (False, False, {"accumulate_grad_batches": 2}),
        (True, True, {}),
        (False, True, {"precision": "bf16-mixed"}),
    ],
)
def test_a_run_with_the_printed_weights_is_the_same_run(
    cached: bool, fast: bool, options: dict[str, Any], captured_on_cpu: Captures, capsys: pytest.CaptureFixture[str]
) -> None:
    data = {**DATA, "count": 96, "views": 2}
    _, balanced = train(lambda fast: distill(fast, cache_teacher=cached), fast, data, **options)
    lines = map(str.split, capsys.readouterr().out.splitlines())
    printed = {line[0].split(".")[2]: float(line[1]) for line in lines if line[0].startswith("--model.losses.")}
    assert printed == {name: weights_of(balanced)[name] for name in ("kd", "maps", "memory")}
    _, given = train(lambda fast: distill(fast, None, printed, cache_teacher=cached), fast, data, **options)
    for name, values in balanced.state_dict().items():
        assert torch.equal(values, given.state_dict()[name]), name


def test_the_first_line_names_no_weight_that_is_still_to_be_found() -> None:
    found = "learns 0.1 CrossEntropy + SoftTargets + FeatureRegression + CRD + 0 LogitRegression from"
    given = "learns 0.1 CrossEntropy + 0.9 SoftTargets + 10 FeatureRegression + 0.8 CRD + 0 LogitRegression from"
    for balance, words in ((2.0, found), (None, given)):
        _, task = train(partial(distill, balance=balance), False, DATA)
        assert words in start_line(task)


def test_a_resumed_run_has_the_weights_of_its_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "middle.ckpt"
    _, whole = train(distill, False, DATA, callbacks=[SaveAt(11, path)])
    _, resumed = train(distill, False, DATA, path)
    for name, values in whole.state_dict().items():
        assert torch.equal(values, resumed.state_dict()[name]), name
    for other, said in ((3.0, "3"), (None, "null")):
        with pytest.raises(UserError, match=rf"was trained with --model\.balance 2, but this config says {said}; "):
            train(partial(distill, balance=other), False, DATA, path)
    measured = distill(False, None)
    quick_trainer().test(measured, TinyDataModule(**DATA), path, verbose=False)
    assert weights_of(measured) == weights_of(whole)


@pytest.mark.parametrize(
    ("ratio", "losses", "message"),
    [
        (0.0, {"labels": CrossEntropy(), "kd": SoftTargets()}, r"--model\.balance is 0, but it must be above 0"),
        (1.0, {"kd": SoftTargets()}, "there is no loss on labels with a weight; add one"),
        (1.0, {"labels": CrossEntropy(weight=0), "kd": SoftTargets()}, "no loss on labels"),
        (1.0, {"labels": CrossEntropy()}, "there is no loss on a teacher with a weight"),
    ],
)
def test_what_cannot_be_balanced_is_refused(ratio: float, losses: dict[str, Loss], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Distill(TinyNetwork(), Teacher(TinyNetwork()), losses, balance=ratio)


def test_a_loss_that_does_not_pull_is_refused() -> None:
    class Zero(SoftTargets):
        def compare(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
            return super().compare(student, teacher, labels) * 0

    losses: dict[str, Loss] = {"labels": CrossEntropy(), "kd": Zero()}
    with pytest.raises(UserError, match=r"finds no weight for the loss 'kd', whose gradient is 0 times as long as"):
        train(lambda _: Distill(TinyNetwork(), Teacher(TinyNetwork()), losses, balance=1.0), False, {"count": 32})
