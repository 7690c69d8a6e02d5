"""What Lightning and torch raise for a user's mistake is one sentence; what a user's own code raises is theirs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger
from tiny import TinyNetwork
from torch import Tensor

from kd_lightning.cli import main

FIT = [
    "fit",
    "--config=student.yaml",
    "--data=tiny.TinyDataModule",
    "--trainer.max_epochs=2",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--files.onnx=null",
]
OPTIMIZER = "--model.optimizer=torch.optim."


def callback(name: str, **options: Any) -> str:
    return f"--trainer.callbacks+={{class_path: {name}, init_args: {options}}}"


MISTAKES: dict[str, tuple[list[str], str]] = {
    "no wandb": (
        ["--trainer.logger=WandbLogger"],
        "WandbLogger in --trainer.logger cannot work with its settings: Requ",
    ),
    "mode": ([callback("EarlyStopping", monitor="val/loss", mode="x")], "EarlyStopping in --trainer.callbacks cannot"),
    "two alike": ([callback("EarlyStopping", monitor="val/loss")] * 2, "fit each other or this machine: Found more th"),
    "no metric": (
        [callback("EarlyStopping", monitor="nope")],
        "Early stopping conditioned on metric `nope` which is not available",
    ),
    "no validation": (
        [callback("EarlyStopping", monitor="val/loss"), "--data.val_size=0"],
        "Early stopping conditioned on metric `val/loss` which is not available",
    ),
    "precision": (["--trainer.precision=transformer-engine"], "Requirement 'transformer_engine"),
    "rate": (
        [f"{OPTIMIZER}Adam", "--model.optimizer.lr=-1"],
        "Adam in --model.optimizer cannot work with its settings",
    ),
    "least steps": (
        ["--trainer.min_steps=30", "--trainer.max_steps=3"],
        "--trainer.min_steps is 30, above --trainer.max_steps, which is 3; change one",
    ),
    "overfit": (
        ["--trainer.overfit_batches=1", "--trainer.limit_train_batches=2"],
        "--trainer.overfit_batches 1 replaces --trainer.limit_train_batches 2; leave one of them out",
    ),
    "barebones": (["--trainer.barebones=true"], "fit each other or this machine: `Trainer(barebones=True, logger="),
    "stops as it rises": (
        [callback("EarlyStopping", monitor="val/accuracy")],
        "EarlyStopping monitors val/accuracy in mode min, but higher is better; set its mode in --trainer",
    ),
    "slows as it rises": (
        ["--model.lr_scheduler=lightning.pytorch.cli.ReduceLROnPlateau", "--model.lr_scheduler.monitor=val/accuracy"],
        "ReduceLROnPlateau monitors val/accuracy in mode min, but higher is better; set --model.lr_sched",
    ),
    "pruning": (
        [callback("ModelPruning", pruning_fn="l1_unstructured", amount=5.5)],
        "ModelPruning in --trainer.callbacks cannot work with its settings: amount=5.5 should",
    ),
    "too big": (
        ["--model.network=tiny.TinyNetwork", "--model.network.width=1000000000"],
        "take a smaller --data.batch_size, --data.eval_batch_size or network.\n",
    ),
    "weights": (
        ["--ckpt_path=weights.pth"],
        "weights.pth holds only weights, and fit resumes from",
    ),
}

if not torch.cuda.is_available():
    MISTAKES["no GPU"] = (["--trainer.accelerator=cuda"], "a device that PyTorch does not find here; leave it out, or")
    profiler = "{class_path: PyTorchProfiler, init_args: {emit_nvtx: true}}"
    MISTAKES["nvtx"] = ([f"--trainer.profiler={profiler}"], "emit_nvtx is true, but this machine has no NVIDIA GPU")


@pytest.mark.parametrize("mistake", MISTAKES)
def test_an_error_of_a_library_is_one_sentence_and_status_2(
    mistake: str, temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"network.a": torch.zeros(1)}, "weights.pth")
    options, expected = MISTAKES[mistake]
    assert main([*FIT, *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert expected in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("method", ["save", "log_graph"])
def test_an_error_of_a_library_that_lightnings_logger_calls_is_a_sentence(
    method: str, temp_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As wandb and mlflow do, which are neither Lightning's code nor the user's."""
    library: dict[str, Any] = {"__name__": "tracking"}
    exec("def call(self, *args, **kwargs): raise ConnectionError('no such server')", library)
    monkeypatch.setattr(CSVLogger, method, library["call"])
    assert main([*FIT, "--trainer.logger={class_path: CSVLogger, init_args: {save_dir: x}}"]) == 2
    assert (
        capsys.readouterr().err
        == "error: CSVLogger in --trainer.logger cannot work with its settings: no such server.\n"
    )


class BrokenNetwork(TinyNetwork):
    """Fails in its constructor or in its step."""

    def __init__(self, *args: Any, early: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if early:
            self.nothing = self.undefined

    def forward(self, images: Tensor) -> Tensor:
        return torch.nn.functional.linear(super().forward(images), torch.zeros(3, 77))


class BrokenCallback(Callback):
    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        pl_module.log("too early", 1.0)  # Lightning refuses that


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--model.network=test_mistakes.BrokenNetwork", "--model.network.early=true"], AttributeError),
        (["--model.network=test_mistakes.BrokenNetwork"], RuntimeError),
        (["--trainer.callbacks+=test_mistakes.BrokenCallback"], MisconfigurationException),
    ],
)
def test_an_error_of_the_users_code_keeps_its_traceback(
    options: list[str], error: type[Exception], temp_folder: Path
) -> None:
    with pytest.raises(error) as raised:
        main([*FIT, *options])
    assert any(Path(str(entry.path)).name == "test_mistakes.py" for entry in raised.traceback[1:])


def test_a_users_own_checkpoints_are_kept_beside_those_of_every_fit(temp_folder: Path) -> None:
    best = callback("ModelCheckpoint", monitor="val/accuracy", mode="max", filename="best", save_last=True)
    assert main([*FIT, "--trainer.callbacks+=ModelCheckpoint", best]) == 0
    checkpoints = Path("lightning_logs/student/version_0/checkpoints")
    assert sorted(path.name for path in checkpoints.glob("*.ckpt")) == ["best.ckpt", "last.ckpt"]
    own = sorted(path.name for path in (checkpoints / "own").iterdir())
    assert own == ["best.ckpt", "epoch=1-step=2.ckpt", "last.ckpt"]
    assert main([*FIT, best, f"--ckpt_path={checkpoints / 'own' / 'last.ckpt'}", "--trainer.max_epochs=3"]) == 0
