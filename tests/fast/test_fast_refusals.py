"""Parts that are not known to work with the fast path turn it off; Lightning's own loop then runs all steps."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from fast_cases import NO_MARK, UNKNOWN, Case
from fast_example import Calls, assert_same, classifier, train
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch import callbacks as theirs
from lightning.pytorch.plugins.precision import Precision
from recorded_graph import Captures
from task_example import light
from tiny import TinyDataModule
from torch.optim import LBFGS, SGD, Adam

from kd_lightning.data.loader import Batch
from kd_lightning.errors import UserError
from kd_lightning.tasks import Classifier, Task
from kd_lightning.tasks.step import Step


def called(*args: Any, **kwargs: Any) -> None:
    """Any function of a user."""


class OwnCallback(Callback):
    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None: ...


class OwnStep(Classifier):
    def step(self, batch: Batch) -> Step:
        step = super().step(batch)
        return step._replace(loss=step.loss * (1 + self.current_epoch))


class Logs(Classifier):
    def step(self, batch: Batch) -> Step:
        self.log("seen", float(len(batch.rows)), on_step=True)
        return super().step(batch)


class MarkedLogs(Logs):
    works_with_fast_path = True


class OwnTransfer(TinyDataModule):
    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return super().transfer_batch_to_device(batch, device, dataloader_idx)


class Given(TinyDataModule):
    def setup(self, stage: str) -> None:
        super().setup(stage)
        self.on_after_batch_transfer = super().on_after_batch_transfer  # type: ignore[method-assign]


class OwnOptimizer(SGD): ...


class OwnPrecision(Precision): ...


def hooked(optimizer: Any) -> Any:
    optimizer.register_step_post_hook(called)
    return optimizer


def prepared(prepare: Callable[[Task], Any]) -> Callable[[Any], Task]:
    """Make a task and apply a change to it."""

    def make(fast: Any) -> Task:
        task = classifier(fast)
        prepare(task)
        return task

    return make


def with_attribute(owner: Any, name: str) -> Any:
    setattr(owner, name, called)
    return owner


def calling(*make: Callable[[], Callback], **options: Any) -> Case:
    return Case(trainer=options, more=lambda folder: {"callbacks": [one() for one in make]})


CASES: dict[str, tuple[str, Case]] = {
    "averaged weights": (
        f"StochasticWeightAveraging {UNKNOWN}",
        calling(lambda: theirs.StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=1)),
    ),
    "LambdaCallback": (
        f"LambdaCallback {UNKNOWN}",
        calling(lambda: theirs.LambdaCallback(on_train_batch_end=called)),
    ),
    "a callback": (f"OwnCallback {NO_MARK}", calling(OwnCallback)),
    "a hook given to a callback": (
        "an attribute takes the place of EarlyStopping.on_train_batch_end",
        calling(lambda: with_attribute(theirs.EarlyStopping("val/loss"), "on_train_batch_end")),
    ),
    "profiler": ("the profiler measures every step", Case(trainer={"profiler": "simple"})),
    "detect_anomaly": ("detect_anomaly looks at every step", Case(trainer={"detect_anomaly": True})),
    "reloading": (
        "reload_dataloaders_every_n_epochs makes new batches",
        Case(trainer={"reload_dataloaders_every_n_epochs": 1}),
    ),
    "a precision": (f"OwnPrecision {NO_MARK}", Case(more=lambda folder: {"plugins": OwnPrecision()})),
    "LBFGS": (f"LBFGS {UNKNOWN}", Case(lambda fast: classifier(fast, optimizer=lambda p: LBFGS(p)))),
    "an optimizer": (
        f"OwnOptimizer {NO_MARK}",
        Case(lambda fast: classifier(fast, optimizer=lambda p: OwnOptimizer(p, lr=0.1))),
    ),
    "a hook on the optimizer": (
        f"a hook on Adam {UNKNOWN}",
        Case(lambda fast: classifier(fast, optimizer=lambda p: hooked(Adam(p)))),
    ),
    "an objective": (f"OwnStep {NO_MARK}", Case(lambda fast: OwnStep(light(), fast=fast))),
    "logging in a step": (f"Logs {NO_MARK}", Case(lambda fast: Logs(light(), fast=fast))),
    "manual optimization": (
        "Classifier optimizes by itself",
        Case(prepared(lambda task: setattr(task, "automatic_optimization", False))),
    ),
    "a forward hook": (
        f"a hook on a Dropout {UNKNOWN}",
        Case(prepared(lambda task: task.network.classifier[2].register_forward_hook(called))),  # type: ignore
    ),
    "a hook on a gradient": (
        f"a hook on a Linear {UNKNOWN}",
        Case(prepared(lambda task: task.network.classifier[0].weight.register_hook(called))),  # type: ignore
    ),
    "a transfer of the data": (
        f"OwnTransfer has its own transfer_batch_to_device, which {NO_MARK}",
        Case(source=OwnTransfer),
    ),
    "views given to the data": ("an attribute takes the place of Given.on_after_batch_transfer", Case(source=Given)),
}
SMALL = {"count": 86, "batch_size": 8}


def trained(case: Case, fast: Any, **options: Any) -> tuple[Trainer, Task]:
    more = case.more(None)  # type: ignore[arg-type]
    return train(case.make, fast, SMALL, source=case.source, **{**case.trainer, **options, **more})


@pytest.mark.parametrize("name", CASES)
def test_unknown_parts_are_refused_before_training_where_the_fast_path_is_required(name: str) -> None:
    reason, case = CASES[name]
    with pytest.raises(UserError, match=f"^--model.fast is true, but {reason}.*; set it to auto or change that.$"):
        trained(case, True)


@pytest.mark.parametrize("name", ["averaged weights", "LambdaCallback", "an objective"])
def test_unknown_parts_leave_all_steps_to_lightning_and_the_reason_is_printed(
    name: str, captured_on_cpu: Captures, capsys: pytest.CaptureFixture[str]
) -> None:
    reason, case = CASES[name]
    plain, automatic = trained(case, False), trained(case, "auto")
    assert f"Steps: one by one; {reason.partition(' ')[0]} {UNKNOWN}" in capsys.readouterr().out
    assert_same(plain, automatic)


def test_a_cpu_takes_the_plain_path_by_itself_and_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    calls = Calls()
    train(lambda fast: classifier("auto"), True, SMALL, max_epochs=1, callbacks=[calls])
    assert calls.batches == list(range(10))
    assert "Steps" not in capsys.readouterr().out


def test_a_marked_task_that_logs_in_a_step_is_refused_in_one_sentence() -> None:
    with pytest.raises(UserError, match=r"MarkedLogs has works_with_fast_path = True, but .*self\.log.*fast false\.$"):
        train(lambda fast: MarkedLogs(light(), fast=fast), True, SMALL)
