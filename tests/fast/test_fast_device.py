"""A captured step may not use the host: the same code runs on tensors of another device, which have no values."""

from typing import Any

import pytest
import torch
from fast_cases import CASES
from fast_example import cosine, train
from torch import Tensor
from torch.optim import SGD
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kd_lightning.data.augment import Augmentation, ColorJitter, CutMix, Cutout, Mixup, RandomCrop, RandomTranslate
from kd_lightning.data.loader import LabelledImages
from kd_lightning.fast.graph import CapturedStep
from kd_lightning.fast.step import OptimizerStep
from kd_lightning.tasks import Distill

DEVICE = torch.device("meta")
"""The device in place of a GPU: reading a value, or a tensor that stays in main memory, is an error."""


class StayOnDevice(TorchDispatchMode):
    """Refuses operations that take a tensor of main memory or bring one from there, as a capture does."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        devices = {leaf.device for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)}
        assert devices <= {DEVICE}, f"{func} takes or makes a tensor in main memory"
        return result


def on_device(task: Any) -> OptimizerStep:
    """Return a step of a task that was trained in main memory, with all its data on the device."""
    trainer = task.trainer
    trainer.training = True
    task.prepare()
    if isinstance(task, Distill):
        task.targets.tables = {key: table.to(DEVICE) for key, table in task.targets.tables.items()}
    task.to(DEVICE)
    trainer.strategy.optimizers = [SGD(task.trained_parameters(), lr=0.1)]
    loader = trainer.train_dataloader
    loader.data = LabelledImages(*(values.to(DEVICE) for values in loader.data))
    return OptimizerStep(task)


def do_twice(step: OptimizerStep) -> None:
    """Run a step, which fills tables, and check the next one, which a graph would capture."""

    captured = CapturedStep(step, lambda function: function)
    captured.once()
    with StayOnDevice():
        captured.once()


ON_DEVICE = (
    *("plain", "one cycle", "clipping by norm", "clipping by value", "accumulation", "moves", "mixed labels"),
    *("batch normalization", "a live teacher", "a cached teacher", "a cached teacher, mirrored", "a regressor"),
)


@pytest.mark.parametrize("name", ON_DEVICE)
def test_a_step_does_not_use_the_host(name: str) -> None:
    case = CASES[name]
    _, task = train(case.make, False, case.data, **{**case.trainer, "max_epochs": 1, "limit_train_batches": 3})
    do_twice(on_device(task))


@pytest.mark.parametrize(
    "augmentation", [RandomCrop(2), RandomTranslate(), Cutout(2), ColorJitter(), Mixup(), CutMix()], ids=repr
)
def test_an_augmentation_does_not_use_the_host(augmentation: Augmentation) -> None:
    _, task = train(lambda fast: cosine(fast, cache_teacher=False), False, {"augment": [augmentation]}, max_epochs=1)
    do_twice(on_device(task))


def test_reading_a_value_is_noticed() -> None:
    with StayOnDevice(), pytest.raises(RuntimeError):
        torch.zeros(1, device=DEVICE).item()
    with StayOnDevice(), pytest.raises(AssertionError, match="main memory"):
        torch.tensor(1.0).to(DEVICE)
