"""The fast path against the plain one: the same weights, metrics and books, with fewer calls of Lightning's."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.cli import ReduceLROnPlateau
from lightning.pytorch.loggers import CSVLogger
from tiny import TinyDataModule, TinyNetwork
from torch import Tensor, nn
from torch.optim import SGD, Adam

from kd_lightning.data.augment import CutMix, HorizontalFlip, RandomCrop
from kd_lightning.errors import UserError
from kd_lightning.fast import start as fast_start
from kd_lightning.fast.graph import keep_rates, make_capturable
from kd_lightning.networks import DeepNN, LightNN
from kd_lightning.schedules import OneCycle
from kd_lightning.tasks import Classifier, CosineDistill, Task
from kd_lightning.teacher import Teacher

GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")


def light() -> LightNN:
    return LightNN(num_classes=4, image_size=8)


def classifier(fast: bool | Literal["auto"], **options: Any) -> Classifier:
    return Classifier(light(), **{"optimizer": lambda p: Adam(p, lr=2**-7, fused=True), "fast": fast, **options})


def train(
    make: Callable[[bool], Task],
    fast: bool,
    data: dict[str, Any] | None = None,
    ckpt: Path | None = None,
    **options: Any,
) -> tuple[Trainer, Task]:
    seed_everything(0)
    task = make(fast)
    settings = {
        "max_epochs": 2,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        **options,
    }
    trainer = Trainer(**settings)
    trainer.fit(task, datamodule=TinyDataModule(**{"count": 330, "batch_size": 16, **(data or {})}), ckpt_path=ckpt)
    return trainer, task


def books(trainer: Trainer) -> dict[str, Any]:
    """Return everything that Lightning counts."""
    loop = trainer.fit_loop.epoch_loop
    return {"step": trainer.global_step, "logged": loop._batches_that_stepped, "loops": trainer.fit_loop.state_dict()}


def assert_same(plain: tuple[Trainer, Task], fast: tuple[Trainer, Task], exact: bool = True) -> None:
    assert books(plain[0]) == books(fast[0])
    tolerance = 0.0 if exact else 2e-5
    for name, values in plain[1].state_dict().items():
        assert torch.allclose(values.cpu(), fast[1].state_dict()[name].cpu(), rtol=0, atol=tolerance), name
    logged, expected = fast[0].callback_metrics, plain[0].callback_metrics
    assert logged.keys() == expected.keys()
    for name, value in expected.items():
        assert float(logged[name]) == pytest.approx(float(value), abs=1e-5 if exact else 1e-3), name


class Calls(Callback):
    """Counts the batches that Lightning sees."""

    copes_with_steps_ahead = True

    def __init__(self) -> None:
        self.batches: list[int] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.batches.append(batch_idx)


@pytest.fixture
def captured_on_cpu(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Take the way of a CUDA graph with a capture that repeats the step in Python; return how often it was replayed."""
    replays: list[int] = []

    def capture(function: Callable[[], None]) -> Callable[[], None]:
        def replay() -> None:
            replays.append(1)
            function()

        return replay

    monkeypatch.setattr(fast_start, "why_not_captured", lambda task: None)
    monkeypatch.setattr(fast_start, "capture_cuda", capture)
    return replays


def cosine(fast: bool, **options: Any) -> CosineDistill:
    torch.manual_seed(1)
    teacher = Teacher(DeepNN(num_classes=4, image_size=8))
    options = {"optimizer": lambda p: Adam(p, lr=2**-7, fused=True), **options}
    return CosineDistill(light(), teacher, fast=fast, **options)


def one_cycle(fast: bool) -> Classifier:
    return classifier(fast, lr_scheduler=OneCycle, lr_interval="step")


def plateau(fast: bool) -> Classifier:
    return classifier(fast, lr_scheduler=lambda o: ReduceLROnPlateau(o, monitor="val/loss", patience=0, threshold=1.0))


class Assigns(OneCycle):
    """A schedule that puts a number where torch's own ones fill what is there."""

    def step(self, epoch: int | None = None) -> None:
        super().step(epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = float(group["lr"])


CASES: dict[str, tuple[Callable[[bool], Task], dict[str, Any], dict[str, Any]]] = {
    "plain": (classifier, {}, {}),
    "batch normalization": (lambda fast: Classifier(TinyNetwork(), fast=fast), {}, {}),
    "one cycle": (one_cycle, {}, {}),
    "a schedule of a user's own": (lambda fast: classifier(fast, lr_scheduler=Assigns, lr_interval="step"), {}, {}),
    "a schedule of epochs": (plateau, {}, {}),
    "clipping by norm": (classifier, {}, {"gradient_clip_val": 0.01}),
    "clipping by value": (classifier, {}, {"gradient_clip_val": 0.001, "gradient_clip_algorithm": "value"}),
    "accumulation": (one_cycle, {}, {"accumulate_grad_batches": 3}),
    "bf16": (classifier, {}, {"precision": "bf16-mixed"}),
    "augmentation": (classifier, {"augment": [RandomCrop(2), HorizontalFlip()]}, {}),
    "mixed labels": (classifier, {"augment": [CutMix()]}, {}),
    "validation in the epoch": (classifier, {}, {"val_check_interval": 0.25}),
    "validation by steps": (classifier, {}, {"val_check_interval": 7, "check_val_every_n_epoch": None}),
    "no validation": (classifier, {"val_size": 0}, {}),
    "steps": (classifier, {}, {"max_steps": 25, "max_epochs": -1}),
    "a part of the epoch": (classifier, {}, {"limit_train_batches": 5}),
    "a live teacher": (lambda fast: cosine(fast, remember_teacher=False), {}, {}),
    "a remembered teacher": (lambda fast: cosine(fast, remember_teacher=True), {}, {}),
    "a remembered teacher, mirrored": (
        lambda fast: cosine(fast, remember_teacher=True),
        {"augment": [HorizontalFlip()]},
        {},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_many_steps_in_one_call_are_those_of_lightning_bit_for_bit(case: str) -> None:
    make, data, options = CASES[case]
    calls = Calls()
    plain = train(make, False, data, **options)
    fast = train(make, True, data, callbacks=[calls], **options)
    assert_same(plain, fast)
    assert len(calls.batches) < sum(1 for _ in range(plain[0].fit_loop.epoch_loop.total_batch_idx + 1))
    assert calls.batches[-1] == plain[0].fit_loop.epoch_loop.batch_idx


@pytest.mark.parametrize("case", CASES)
def test_a_captured_step_reads_its_inputs_anew_and_all_its_results_are_counted(
    case: str, captured_on_cpu: list[int]
) -> None:
    make, data, options = CASES[case]
    plain = train(make, False, data, **options)
    fast = train(make, True, data, **options)
    assert captured_on_cpu
    assert_same(plain, fast, exact=False)


@GPU
@pytest.mark.parametrize("case", CASES)
def test_a_cuda_graph_keeps_the_plain_paths_books_and_learns_as_well(
    case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make, data, options = CASES[case]
    plain = train(make, False, data, accelerator="gpu", devices=1, **options)
    fast = train(make, True, data, accelerator="gpu", devices=1, **options)
    assert "Steps: as a CUDA graph" in capsys.readouterr().out
    assert books(plain[0]) == books(fast[0])
    assert plain[0].callback_metrics.keys() == fast[0].callback_metrics.keys()
    losses = [float(trainer.callback_metrics["train/loss"]) for trainer, _ in (plain, fast)]
    assert losses[1] == pytest.approx(losses[0], rel=0.2)


@pytest.mark.parametrize("device", ["cpu", pytest.param("gpu", marks=GPU)])
@pytest.mark.parametrize("remember", [None, False, True])
def test_captured_steps_have_the_gradients_of_plain_ones(
    device: str, remember: bool | None, request: pytest.FixtureRequest
) -> None:
    if device == "cpu":
        request.getfixturevalue("captured_on_cpu")

    def make(fast: bool) -> Task:
        options = {"optimizer": lambda p: SGD(p, lr=0.25, fused=True)}  # a step is a quarter of the gradient
        task = classifier(fast, **options) if remember is None else cosine(fast, remember_teacher=remember, **options)
        return _without_dropout(task)

    settings: dict[str, Any] = {"max_steps": 6, "max_epochs": -1, "accelerator": device, "devices": 1}
    (_, plain), (_, fast) = train(make, False, **settings), train(make, True, **settings)
    for name, values in plain.state_dict().items():
        assert torch.allclose(values.cpu(), fast.state_dict()[name].cpu(), rtol=1e-4, atol=1e-5), name


def _without_dropout(task: Task) -> Task:
    for module in task.network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return task


@pytest.mark.parametrize("first", [False, True])
def test_a_run_goes_on_on_the_other_path_from_a_checkpoint_in_the_middle_of_an_epoch(
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


def test_a_checkpoint_of_a_captured_run_holds_plain_numbers(tmp_path: Path, captured_on_cpu: list[int]) -> None:
    saved = ModelCheckpoint(tmp_path, filename="end")
    train(one_cycle, True, callbacks=[saved], enable_checkpointing=True)
    checkpoint = torch.load(tmp_path / "end.ckpt", weights_only=True)
    [optimizer], [schedule] = checkpoint["optimizer_states"], checkpoint["lr_schedulers"]
    assert [(type(group["lr"]), group["capturable"]) for group in optimizer["param_groups"]] == [(float, False)]
    assert [type(rate) for rate in schedule["_last_lr"]] == [float]
    assert captured_on_cpu


@pytest.mark.parametrize("fast", [False, True])
def test_learning_rates_are_logged_at_the_steps_that_were_asked_for(fast: bool, tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path, name="", version="")
    train(one_cycle, fast, logger=logger, log_every_n_steps=7, callbacks=[LearningRateMonitor("step")])
    lines = [line.split(",") for line in (tmp_path / "metrics.csv").read_text().splitlines()]
    places = {name: lines[0].index(name) for name in ("lr-Adam", "step")}
    logged = {
        int(line[places["step"]]): float(line[places["lr-Adam"]]) for line in lines[1:] if line[places["lr-Adam"]]
    }
    schedule = OneCycle(Adam([nn.Parameter(torch.zeros(1))], lr=2**-7), total_steps=38)
    assert logged == {step: pytest.approx(2**-7 * schedule.share(step)) for step in (6, 13, 20, 27, 34)}


def test_early_stopping_stops_behind_the_same_epoch() -> None:
    def stopped(fast: bool) -> Trainer:
        stop = EarlyStopping("val/loss", patience=0, min_delta=10.0)
        return train(classifier, fast, max_epochs=9, callbacks=[stop])[0]

    assert stopped(True).current_epoch == stopped(False).current_epoch == 2


def test_a_step_is_captured_anew_when_what_it_keeps_has_changed(captured_on_cpu: list[int]) -> None:
    class Freeze(Callback):
        def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            if trainer.current_epoch == 1:
                trainer.optimizers[0].param_groups[0]["weight_decay"] = 0.5

    plain = train(classifier, False, callbacks=[Freeze()])
    fast = train(classifier, True, callbacks=[Freeze()])
    assert_same(plain, fast, exact=False)
    assert len(captured_on_cpu) == 2 * (18 - 3)  # of 19 steps three warm up, and the last one is Lightning's


def test_a_step_that_cannot_be_captured_is_done_from_python(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(function: Callable[[], None]) -> Callable[[], None]:
        raise RuntimeError("operation not permitted when stream is capturing\nat some place")

    monkeypatch.setattr(fast_start, "why_not_captured", lambda task: None)
    monkeypatch.setattr(fast_start, "capture_cuda", refuse)
    calls = Calls()
    automatic = train(lambda fast: classifier("auto" if fast else False), True, callbacks=[calls])
    assert_same(train(classifier, False), automatic, exact=False)
    assert "cannot be captured: operation not permitted when stream is capturing.\n" in capsys.readouterr().out
    assert len(calls.batches) < 10
    with pytest.raises(UserError, match="true, but the step cannot be captured: operation not"):
        train(classifier, True)


def test_a_learning_rate_that_was_put_in_its_place_is_written_where_a_graph_reads_it() -> None:
    optimizer = Adam([nn.Parameter(torch.zeros(1))], lr=0.5, fused=True)
    [rate] = make_capturable(optimizer, torch.device("cpu"))
    assert optimizer.param_groups[0]["lr"] is rate
    optimizer.param_groups[0]["lr"] = 0.25
    keep_rates(optimizer, [rate])
    assert optimizer.param_groups[0]["lr"] is rate
    assert float(rate) == 0.25


class WatchesBatches(Callback):
    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None: ...


class OwnStep(Classifier):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step(batch, batch_idx)


class OwnTransfer(TinyDataModule):
    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return super().transfer_batch_to_device(batch, device, dataloader_idx)


class ManyEvaluations(SGD):
    def step(self, closure: Any) -> Any:  # type: ignore[override]
        return super().step(closure)


REASONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "WatchesBatches has its own on_train_batch_end": ({}, {"callbacks": [WatchesBatches()]}),
    "the profiler measures every step": ({}, {"profiler": "simple"}),
    "detect_anomaly looks at every step": ({}, {"detect_anomaly": True}),
    "ManyEvaluations evaluates the loss several times in a step": (
        {"optimizer": lambda p: ManyEvaluations(p, lr=0.01)},
        {},
    ),
}


@pytest.mark.parametrize("reason", REASONS)
def test_what_has_to_see_every_batch_does_and_it_is_said_why(reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    options, settings = REASONS[reason]
    calls = Calls()

    def automatic(fast: bool) -> Task:
        return classifier("auto", **options)

    settings = {**settings, "callbacks": [calls, *settings.get("callbacks", [])], "max_epochs": 1}
    train(automatic, True, **settings)
    assert calls.batches == list(range(19))
    assert f"Steps: one by one; {reason}." in capsys.readouterr().out
    with pytest.raises(UserError, match=f"--model.fast is true, but {reason}; set it to auto"):
        train(lambda fast: classifier(True, **options), True, **settings)


def test_a_task_with_a_step_of_its_own_and_data_with_a_transfer_of_its_own_are_left_to_lightning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    train(lambda fast: OwnStep(light()), True, max_epochs=1)
    assert "OwnStep has its own training_step" in capsys.readouterr().out
    calls = Calls()
    trainer = Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[calls],
    )
    trainer.fit(classifier("auto"), datamodule=OwnTransfer(count=100))
    assert "OwnTransfer has its own transfer_batch_to_device" in capsys.readouterr().out
    assert calls.batches == [0, 1, 2]


def test_a_fit_that_is_over_leaves_every_batch_to_its_caller() -> None:
    trainer, _ = train(classifier, True)
    loader = trainer.train_dataloader
    assert loader is not None
    assert loader.ahead is None
    assert sum(len(batch.rows) for batch in loader) == 297
