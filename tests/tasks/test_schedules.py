from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.cli import ReduceLROnPlateau
from task_example import SaveAt, quick_trainer
from tiny import TinyDataModule
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import ExponentialLR, MultiStepLR, OneCycleLR, SequentialLR, StepLR

from kd_lightning.errors import UserError
from kd_lightning.networks import LightNN
from kd_lightning.tasks import Classifier
from kd_lightning.tasks.schedules import OneCycle


def sgd(parameters: Any) -> SGD:
    return SGD(parameters, lr=0.125)


def fit(
    schedule: Any,
    *callbacks: Callback,
    data: Any = None,
    ckpt: Path | None = None,
    optimizer: Any = sgd,
    **options: Any,
) -> Trainer:
    own = {name: options.pop(name) for name in ("lr_interval", "fast") if name in options}
    task = Classifier(LightNN(num_classes=4, image_size=8), optimizer=optimizer, lr_scheduler=schedule, **own)
    trainer = quick_trainer(**{"epochs": 2, **options}, callbacks=list(callbacks))
    data = TinyDataModule(**(data or {}))  # 4 steps an epoch
    trainer.fit(task, datamodule=data, ckpt_path=ckpt, weights_only=True)
    return trainer


class Rates(Callback):
    """Notes the learning rate of every step."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        """Note the rate."""
        self.seen.append(optimizer.param_groups[0]["lr"])


def test_one_cycle_rises_to_the_optimizers_rate_and_falls_to_nearly_nothing() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    schedule = OneCycle(optimizer, total_steps=100, warm_up=0.3, start=0.04)
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[0] == pytest.approx(0.08)
    assert rates[30] == max(rates) == pytest.approx(2)
    assert rates[:31] == sorted(rates[:31])
    assert rates[30:] == sorted(rates[30:], reverse=True)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(2e-4)


def plateau(optimizer: Any, monitor: str = "val/loss") -> ReduceLROnPlateau:
    return ReduceLROnPlateau(optimizer, monitor=monitor, patience=0, threshold=1.0, factor=0.5)  # never content


MOVES: dict[str, tuple[Any, dict[str, Any], int]] = {
    "our cycle": (OneCycle, {}, 8),
    "torch's cycle": (lambda o: OneCycleLR(o, max_lr=0.5, total_steps=8), {}, 8),
    "one of epochs": (lambda o: ExponentialLR(o, 0.5), {}, 2),
    "a plateau": (plateau, {"epochs": 3}, 3),
    "a plateau of every other validation": (plateau, {"epochs": 4, "check_val_every_n_epoch": 2}, 2),
    "a plateau of training": (lambda o: plateau(o, "train/loss"), {"epochs": 3, "check_val_every_n_epoch": None}, 3),
}


@pytest.mark.parametrize("name", MOVES)
def test_a_schedule_is_updated_every_step_or_every_epoch_by_its_kind(name: str) -> None:
    schedule, options, expected = MOVES[name]
    rates = Rates()
    fit(schedule, rates, **options)
    assert len(set(rates.seen)) == expected


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "a cycle of epochs": (
        OneCycle,
        {"lr_interval": "epoch"},
        "lr_interval is epoch, but OneCycle is updated every step",
    ),
    "a plateau of steps": (plateau, {"lr_interval": "step"}, "ReduceLROnPlateau is updated every epoch"),
    "a plateau of batches": (
        plateau,
        {"check_val_every_n_epoch": None},
        "in every epoch, but validation goes by batch",
    ),
    "a plateau in the wrong mode": (
        lambda o: ReduceLROnPlateau(o, monitor="val/accuracy"),
        {},
        "monitors val/accuracy in mode min, but higher is better; set --model.lr_scheduler.mode to max",
    ),
    "no length": (OneCycle, {"epochs": -1, "max_time": "00:00:01:00"}, "needs the length of the run"),
    "too short": (lambda o: OneCycleLR(o, max_lr=0.5, total_steps=7), {}, "ends after 7 steps, but this run has 8"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_schedule_is_refused_before_the_first_step(name: str) -> None:
    schedule, options, message = REFUSED[name]
    rates = Rates()
    with pytest.raises(UserError, match=message):
        fit(schedule, rates, **options)
    assert not rates.seen


RESUMED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "lr": (None, {"optimizer": lambda p: SGD(p, lr=0.5)}, "with optimizer.lr 0.125, .* config says 0.5; leave it"),
    "optimizer": (None, {"optimizer": lambda p: Adam(p, lr=0.125)}, "with optimizer SGD, .* says Adam"),
    "no schedule": (None, {}, "with lr_scheduler StepLR, .* says NoneType"),
    "its settings": (lambda o: StepLR(o, 2), {}, "with lr_scheduler.step_size 1, .* says 2"),
    "its milestones": (lambda o: MultiStepLR(o, [1, 3]), {}, r"milestones \[\[1, 1\], \[2, 1\]\], .*3, 1\]\]; leave"),
    "a part": (lambda o: _sequence(o, 0.25), {}, "lr_scheduler._schedulers .*0.5.* says .*0.25"),
    "a cycle's length": (OneCycle, {"epochs": 3}, "has 8 steps, but this run has 12"),
}


def _sequence(optimizer: Any, gamma: float = 0.5) -> SequentialLR:
    return SequentialLR(optimizer, [ExponentialLR(optimizer, gamma), ExponentialLR(optimizer, 1.0)], [1])


@pytest.mark.parametrize("name", RESUMED)
def test_a_resumed_run_refuses_settings_that_it_would_ignore(name: str, tmp_path: Path) -> None:
    schedule, change, message = RESUMED[name]
    first = {
        "lr": None,
        "optimizer": None,
        "its milestones": lambda o: MultiStepLR(o, [1, 2]),
        "a part": _sequence,
        "a cycle's length": OneCycle,
    }.get(name, lambda o: StepLR(o, 1))
    save = SaveAt(3, tmp_path / "middle.ckpt")
    fit(first, save)
    with pytest.raises(UserError, match=message):
        fit(schedule, ckpt=save.path, **change)


def test_a_run_without_a_cycle_can_be_resumed_for_more_epochs(tmp_path: Path) -> None:
    save = SaveAt(3, tmp_path / "middle.ckpt")
    fit(lambda o: StepLR(o, 1), save)
    assert fit(lambda o: StepLR(o, 1), ckpt=save.path, epochs=4).global_step == 16
