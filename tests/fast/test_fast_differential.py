"""Many sets of options, each trained in the plain loop and on the fast path: all is the same, or it is refused."""

from pathlib import Path
from typing import Any

import pytest
from fast_cases import CASES
from fast_example import GPU, Calls, Log, assert_same, progress, train
from lightning.pytorch import Trainer
from recorded_graph import Captures

from kd_lightning.errors import UserError
from kd_lightning.fast import callback
from kd_lightning.tasks import Task

SMALL = {"count": 62, "batch_size": 8}  # seven batches an epoch, the last one smaller


Run = tuple[Trainer, Task]


def run(case: str, fast: bool, folder: Path, **options: Any) -> tuple[Run, Calls, Log]:
    own, calls, log = CASES[case], Calls(), Log()
    folder.mkdir()
    more = own.more(folder)
    options = {"logger": log, **own.trainer, **options, **more, "callbacks": [calls, *more.get("callbacks", [])]}
    return train(own.make, fast, {**SMALL, **own.data}, source=own.source, **options), calls, log


@pytest.mark.parametrize("case", CASES)
def test_a_run_is_the_same_in_lightnings_loop_on_the_fast_path_and_with_captured_steps_or_that_is_refused(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, calls, log = run(case, False, tmp_path / "plain")
    fast, fewer, same_log = run(case, True, tmp_path / "fast")
    assert_same(plain, fast)
    assert (fewer.hooks, same_log.lines) == (calls.hooks, log.lines)
    assert len(fewer.batches) < len(calls.batches)
    assert fewer.batches[-1] == calls.batches[-1]

    captures = Captures()
    monkeypatch.setattr(callback, "is_gpu", lambda device: True)
    monkeypatch.setattr(callback, "capture_cuda", captures)
    if CASES[case].uncaptured:
        with pytest.raises(UserError, match=f"^--model.fast is true, but .*{CASES[case].uncaptured}"):
            run(case, True, tmp_path / "captured")
        return
    captured, fewer, same_log = run(case, True, tmp_path / "captured")
    assert captures.replays
    assert_same(plain, captured, exact=False)
    assert fewer.hooks == calls.hooks
    assert [step for step, _ in same_log.lines] == [step for step, _ in log.lines]


@GPU
@pytest.mark.parametrize("case", CASES)
def test_a_cuda_graph_keeps_the_plain_paths_progress_and_learns_as_well(case: str, tmp_path: Path) -> None:
    if CASES[case].uncaptured:
        return
    gpu = {"accelerator": "gpu", "devices": 1}
    plain, calls, _ = run(case, False, tmp_path / "plain", **gpu)
    fast, fewer, _ = run(case, True, tmp_path / "fast", **gpu)
    assert progress(plain[0]) == progress(fast[0])
    assert fewer.hooks == calls.hooks
    assert plain[0].callback_metrics.keys() == fast[0].callback_metrics.keys()
    losses = [float(trainer.callback_metrics["train/loss"]) for trainer, _ in (plain, fast)]
    assert losses[1] == pytest.approx(losses[0], rel=0.2)
