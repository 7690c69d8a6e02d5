"""The fast path against the plain one: the same weights, metrics and progress, with fewer calls of Lightning's."""

from collections.abc import Callable
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fast_example import (
    GPU,
    Calls,
    assert_same,
    classifier,
    cosine,
    train,
    without_dropout,
)
from torch.optim import SGD

from kd_lightning.errors import UserError
from kd_lightning.fast import callback as fast_start
from kd_lightning.fast import graph as fast_graph
from kd_lightning.fast.graph import capture_cuda, warm_up_stream
from kd_lightning.tasks import Task


@pytest.mark.parametrize("device", ["cpu", pytest.param("gpu", marks=GPU)])
@pytest.mark.parametrize("cache_teacher", [None, True])
def test_captured_steps_have_the_gradients_of_plain_ones(
    device: str, cache_teacher: bool | None, request: pytest.FixtureRequest
) -> None:
    if device == "cpu":
        request.getfixturevalue("captured_on_cpu")

    def make(fast: bool) -> Task:
        options = {"optimizer": lambda p: SGD(p, lr=0.25, fused=True)}  # a step is a quarter of the gradient
        task = (
            classifier(fast, **options)
            if cache_teacher is None
            else cosine(fast, cache_teacher=cache_teacher, **options)
        )
        return without_dropout(task)

    settings: dict[str, Any] = {"max_steps": 6, "max_epochs": -1, "accelerator": device, "devices": 1}
    (_, plain), (_, fast) = train(make, False, **settings), train(make, True, **settings)
    for name, values in plain.state_dict().items():
        assert torch.allclose(values.cpu(), fast.state_dict()[name].cpu(), rtol=1e-4, atol=1e-5), name


def test_a_step_that_cannot_be_captured_runs_from_python(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(function: Callable[[], None]) -> Callable[[], None]:
        try:
            raise RuntimeError("operation not permitted when stream is capturing\nat some place")
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")

    monkeypatch.setattr(fast_start, "is_gpu", lambda device: True)
    monkeypatch.setattr(fast_start, "capture_cuda", refuse)
    calls = Calls()
    automatic = train(lambda fast: classifier("auto" if fast else False), True, callbacks=[calls])
    assert_same(train(classifier, False), automatic, exact=False)
    assert "cannot be captured: operation not permitted when stream is capturing.\n" in capsys.readouterr().out
    assert len(calls.batches) < 10
    with pytest.raises(UserError, match="true, but the step cannot be captured: operation not"):
        train(classifier, True)


def test_a_fit_that_is_over_leaves_every_batch_to_its_caller() -> None:
    trainer, _ = train(classifier, True)
    loader = trainer.train_dataloader
    assert loader is not None
    assert loader.train_ahead is None
    assert sum(len(batch.rows) for batch in loader) == 297


def test_steps_warm_up_on_the_stream_that_they_are_captured_on(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    class Named:
        """A stream, or the block that works on it."""

        def __init__(self, name: str) -> None:
            self.name = name

        def wait_stream(self, other: "Named") -> None:
            told.append(f"{self.name} waits for {other.name}")

        def __enter__(self) -> None:
            told.append(f"on {self.name}")

        def __exit__(self, *_: object) -> None:
            told.append("done")

    graph = SimpleNamespace(replay=lambda: told.append("replay"))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: Named("main"))
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: Named(f"side {device}"))
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: graph)
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, *, stream, capture_error_mode: stream)
    monkeypatch.setattr(fast_graph, "_side_stream", cache(fast_graph._side_stream.__wrapped__))
    with warm_up_stream(torch.device("cuda")):
        told.append("step")
    warm_up = ["side 0 waits for main", "on side 0", "step", "done", "main waits for side 0"]
    assert told == warm_up
    capture_cuda(lambda: told.append("step"))()
    assert told[len(warm_up) :] == ["on main", "on side 0", "step", "done", "done", "replay"]
