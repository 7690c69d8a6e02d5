"""What Lightning does around training steps is the same on the fast path, on a GPU where there is one."""

from pathlib import Path
from typing import Any

import pytest
import torch
from fast_example import GPU, classifier, one_cycle, train, without_dropout
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from tiny import TinyDataModule
from torch import Tensor
from torch.optim import SGD

from kd_lightning.data.augment import CutMix, HorizontalFlip, RandomCrop
from kd_lightning.data.loader import LabelledImages
from kd_lightning.data.source import Split
from kd_lightning.tasks import Classifier, Task
from kd_lightning.tasks.epoch_metrics import EpochMetrics, Stage
from kd_lightning.tasks.schedules import OneCycle
from kd_lightning.tasks.step import Step

Settings = dict[str, Any]


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=GPU)])
def captured(request: pytest.FixtureRequest) -> Settings:
    """Trainer settings of a run whose steps are captured: as a CUDA graph, or on a CPU by repeating the step."""
    if request.param == "cpu":
        request.getfixturevalue("captured_on_cpu")
    return {"accelerator": request.param, "devices": 1}


@pytest.mark.parametrize("first", [False, True])
def test_a_run_resumes_on_the_other_path_from_a_checkpoint_in_the_middle_of_an_epoch(
    first: bool, tmp_path: Path
) -> None:
    undisturbed = train(one_cycle, first)
    saved = ModelCheckpoint(tmp_path, every_n_train_steps=13, save_top_k=-1, filename="{step}")
    train(one_cycle, first, callbacks=[saved], enable_checkpointing=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step=13.ckpt", "step=26.ckpt"]
    resumed = train(one_cycle, not first, ckpt=tmp_path / "step=13.ckpt")
    assert resumed[0].global_step == undisturbed[0].global_step
    for name, values in undisturbed[1].state_dict().items():
        assert torch.equal(values, resumed[1].state_dict()[name]), name


def test_a_checkpoint_of_a_captured_run_contains_plain_numbers(tmp_path: Path, captured: Settings) -> None:
    saved = ModelCheckpoint(tmp_path, filename="end")
    train(one_cycle, True, callbacks=[saved], enable_checkpointing=True, **captured)
    checkpoint = torch.load(tmp_path / "end.ckpt", weights_only=True)
    [optimizer], [schedule] = checkpoint["optimizer_states"], checkpoint["lr_schedulers"]
    assert [(type(group["lr"]), group["capturable"]) for group in optimizer["param_groups"]] == [(float, False)]
    assert [type(rate) for rate in schedule["_last_lr"]] == [float]


@pytest.mark.parametrize("first", [False, True])
def test_a_captured_run_resumes_from_a_checkpoint_of_either_path(
    first: bool, tmp_path: Path, captured: Settings
) -> None:
    def make(fast: bool) -> Task:
        def momentum(parameters: Any) -> SGD:
            return SGD(parameters, lr=2**-5, momentum=0.5, fused=True)

        return without_dropout(classifier(fast, optimizer=momentum, lr_scheduler=OneCycle, lr_interval="step"))

    undisturbed = train(make, True, **captured)
    saved = ModelCheckpoint(tmp_path, every_n_train_steps=13, save_top_k=-1, filename="{step}")
    train(make, first, callbacks=[saved], enable_checkpointing=True, **captured)
    resumed = train(make, True, ckpt=tmp_path / "step=13.ckpt", **captured)
    assert resumed[0].global_step == undisturbed[0].global_step
    for name, values in undisturbed[1].state_dict().items():
        assert torch.allclose(values.cpu(), resumed[1].state_dict()[name].cpu(), rtol=1e-3, atol=1e-4), name


class OneImage(TinyDataModule):
    """The same image in every row."""

    def load(self, split: Split) -> LabelledImages | None:
        data = super().load(split)
        return None if data is None else LabelledImages(data.images[:1].repeat(len(data.images), 1, 1, 1), data.labels)


class KeepLogits(EpochMetrics):
    """Keeps the logits of training steps."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.logits: list[Tensor] = []

    def add(self, stage: Stage, step: Step) -> Step:
        if stage == "train":
            self.logits.append(step.logits.detach().float().cpu().clone())  # of slots that are filled again
        return super().add(stage, step)


class Kept(Classifier):
    """Learns nothing, and keeps the logits of its training steps."""

    works_with_fast_path = True

    def __init__(self, like: Classifier) -> None:
        super().__init__(like.network, optimizer=lambda p: SGD(p, lr=0.0, fused=True), fast=like.fast)
        self.metrics = KeepLogits(["labels"], like.network.num_classes, with_teacher=False)


def logits(fast: bool, dropout: bool, augment: list[Any], **options: Any) -> Tensor:
    def make(fast: bool) -> Task:
        task = Kept(classifier(fast))
        return task if dropout else without_dropout(task)

    _, task = train(make, fast, {"val_size": 0, "augment": augment}, source=OneImage, **options)
    assert isinstance(task.metrics, KeepLogits)
    return torch.cat(task.metrics.logits)


def test_dropout_draws_new_numbers_in_every_captured_step(captured: Settings) -> None:
    values = logits(True, True, [], **captured)
    assert len(values) == 2 * 330
    assert len(values.unique(dim=0)) > 600


@pytest.mark.parametrize("augmentation", [RandomCrop(2), HorizontalFlip(), CutMix()], ids=repr)
def test_captured_steps_see_the_views_that_plain_ones_see(augmentation: Any, captured: Settings) -> None:
    plain, fast = (logits(fast, False, [augmentation], **captured) for fast in (False, True))
    assert torch.allclose(plain, fast, rtol=1e-2, atol=1e-2)
    first, second = fast.split(330)
    assert len(first.unique(dim=0)) > 1 or isinstance(augmentation, CutMix)  # which mixes an image with itself
    assert not torch.equal(first, second) or isinstance(augmentation, CutMix)


class Bar(TQDMProgressBar):
    """Keeps how far it came in each epoch."""

    works_with_fast_path = True

    def __init__(self) -> None:
        super().__init__()
        self.reached: list[tuple[int, int]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        self.reached.append((int(self.train_progress_bar.n), int(self.train_progress_bar.total)))


def test_the_progress_bar_reaches_its_end_in_every_epoch(captured: Settings) -> None:
    bar = Bar()
    train(classifier, True, callbacks=[bar], enable_progress_bar=True, **captured)
    assert bar.reached == [(19, 19)] * 2
