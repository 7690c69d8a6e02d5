import pytest
import torch
from test_tasks import quick_trainer
from tiny import TinyDataModule

from kd_lightning.networks import LightNN
from kd_lightning.schedules import OneCycle
from kd_lightning.tasks import Classifier


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


def test_a_task_tells_the_cycle_how_long_the_run_is() -> None:
    task = Classifier(
        LightNN(num_classes=4, image_size=8),
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=1.0),
        lr_scheduler=OneCycle,
        lr_interval="step",
    )
    trainer = quick_trainer(epochs=3)
    trainer.fit(task, datamodule=TinyDataModule())
    assert trainer.global_step == 12
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(1e-4)
