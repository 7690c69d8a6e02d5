"""The summary shows the training and its results, and an untrained network is never taken for a trained one."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from tiny import TinyDataModule, TinyNetwork
from training_example import NO_EXPORT, TINY, fit

from kd_lightning.callbacks import ExportONNX, RunSummary, SaveWeights, export_onnx
from kd_lightning.callbacks.summary_text import worse_teacher
from kd_lightning.cli import main
from kd_lightning.data.augment import RandomCrop
from kd_lightning.export import ExportReport, GateError, Row
from kd_lightning.export.verify import Measured
from kd_lightning.losses import CrossEntropy, Loss, SoftTargets
from kd_lightning.networks.weights import load_model
from kd_lightning.tasks import Classifier, Distill
from kd_lightning.teacher import Teacher

STUDENT = Path("lightning_logs/student/version_0")


def summary(run: Path = STUDENT) -> tuple[dict[str, Any], str]:
    content: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return content, (run / "summary.txt").read_text()


@pytest.mark.parametrize(
    ("options", "used", "trained"),
    [
        (["limit_train_batches=2", "limit_test_batches=1"], (64, 6, 8), 1.0),
        (["max_steps=6"], (114, 6, 120), 1.5),
    ],
)
def test_the_summary_counts_the_images_that_were_used(
    options: list[str], used: tuple[int, int, int], trained: float, temp_folder: Path
) -> None:
    fit("student.yaml", NO_EXPORT, "--data.eval_batch_size=8", *(f"--trainer.{option}" for option in options))
    content, text = summary()
    assert tuple(content["data"][f"{name}_images"] for name in ("train", "val", "test")) == used
    assert content["data"]["images"] == {"train": 114, "val": 6, "test": 120}
    assert content["epochs"] == trained
    words = re.search(r"4 classes, (.*) training, (.*) validation, (.*?) test images", " ".join(text.split()))
    assert words is not None
    for word, one, whole in zip(words.groups(), used, (114, 6, 120), strict=True):
        assert word == (str(one) if one == whole else f"{one} of {whole}")
    info = load_model(STUDENT / "NNLight.pth")[1]
    assert (info.epochs, info.limits) == (trained, content["limits"])
    assert content["limits"] in options[0].replace("=", " ")
    assert (info.accuracy is None) == (used[2] < 120)  # of some of the test images only


def test_without_test_images_the_summary_says_so_and_the_weights_have_no_accuracy(temp_folder: Path) -> None:
    fit("student.yaml", NO_EXPORT, "--trainer.limit_test_batches=0")
    content, text = summary()
    assert "accuracy  not measured on the test images" in text
    assert content["data"]["test_images"] == 0
    assert load_model(STUDENT / "NNLight.pth")[1].accuracy is None


def test_a_resumed_finished_run_says_so_and_repeats_the_steps_after_training(
    temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit("student.yaml", NO_EXPORT)
    capsys.readouterr()
    fit("student.yaml", NO_EXPORT, "--ckpt_path=last")
    out = capsys.readouterr().out
    assert "Nothing is left to train: the checkpoint has done 2 epochs and 8 steps." in out
    (first, _), (again, text) = summary(), summary(STUDENT.with_name("version_1"))
    assert text in out
    assert again["metrics"]["test/accuracy"] == first["metrics"]["test/accuracy"]
    assert (again["epochs"], again["steps"]) == (2, 8)
    mine, other = (load_model(STUDENT.with_name(f"version_{i}") / "NNLight.pth")[0] for i in (0, 1))
    assert all(torch.equal(a, b) for a, b in zip(mine.parameters(), other.parameters(), strict=True))


def test_a_run_whose_export_fails_has_a_full_summary_that_names_the_file(
    temp_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(network: Any, info: Any, folder: Path, *_: Any, **__: Any) -> None:
        measured = Measured(difference=1.0, agreement=0.5, accuracy=0.5, change=0.0)
        raise GateError(
            ExportReport([Row("fp32", folder / "a.rejected.onnx", 1, 1.0, measured, failure="it is wrong")])
        )

    monkeypatch.setattr(export_onnx, "rehearse_export", lambda *_: None)
    monkeypatch.setattr(export_onnx, "export_variants", failing)
    assert main(["fit", "--config=student.yaml", *TINY]) == 2
    printed, (content, text) = capsys.readouterr(), summary()
    assert "error: a.rejected.onnx fails its gate: it is wrong." in printed.err
    assert text in printed.out
    assert content["epochs"] == 2
    assert [content["data"][f"{name}_images"] for name in ("train", "val", "test")] == [114, 6, 120]


def test_a_fit_that_trains_nothing_is_refused(temp_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--config=student.yaml", *TINY, NO_EXPORT, "--trainer.max_epochs=0"]) == 2
    assert "--trainer.max_epochs is 0, so that nothing would be trained" in capsys.readouterr().err
    assert not list(temp_folder.iterdir())


def test_an_untrained_network_is_not_written_from_python_either(
    temp_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_onnx, "rehearse_export", lambda *_: None)
    callbacks = [SaveWeights(), ExportONNX(), RunSummary("x")]
    options: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(max_epochs=0, accelerator="cpu", callbacks=callbacks, enable_model_summary=False, **options)
    trainer.fit(Classifier(TinyNetwork()), datamodule=TinyDataModule())
    assert "Nothing was trained, so no weights and no ONNX files are written" in capsys.readouterr().out
    assert not list(temp_folder.iterdir())


@pytest.mark.parametrize(
    ("views", "cache_teacher", "line", "kept", "balance"),
    [
        (2, True, "2 of each training image, teacher outputs cached (0.0 MB in memory)", (360, 4 * 4 * 360), None),
        (None, "auto", "a new one in every epoch, teacher outputs computed in every step", None, 2.0),
    ],
)
def test_the_summary_shows_views_whether_teacher_outputs_are_cached_and_weights_that_were_found(
    views: int | None,
    cache_teacher: Any,
    line: str,
    kept: tuple[int, int] | None,
    balance: float | None,
    temp_folder: Path,
) -> None:
    data = TinyDataModule(augment=[RandomCrop(padding=1)], views=views, val_size=20)
    losses: dict[str, Loss] = {"labels": CrossEntropy(), "kd": SoftTargets()}
    task = Distill(TinyNetwork(), Teacher(TinyNetwork()), losses, cache_teacher=cache_teacher, balance=balance)
    options: dict[str, Any] = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(max_epochs=1, callbacks=[RunSummary("run")], **options)
    trainer.fit(task, datamodule=data)
    trainer.test(task, datamodule=data, verbose=False)
    content, text = summary(Path("lightning_logs/version_0"))
    assert f"  views     {line}\n" in text
    assert content["data"]["views"] == views
    found = content["teacher"]["cached"]
    assert kept == (None if found is None else (found["rows"], found["bytes"]))
    weight = task.losses.named["kd"].full_weight
    assert content["balance"] == (None if balance is None else {"ratio": 2.0, "weights": {"kd": weight}})
    words = f"  weights   kd {weight:.3g}: each pulled 2 times as hard as the labels at the start\n"
    assert (words in text) == (balance is not None)


def test_a_task_may_have_an_attribute_named_balance_of_its_own(temp_folder: Path) -> None:
    class Own(Classifier):
        balance = 0.5  # such as of its classes

    task = Own(TinyNetwork())
    options: dict[str, Any] = {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(max_epochs=1, callbacks=[RunSummary("run")], **options)
    trainer.fit(task, datamodule=TinyDataModule())
    trainer.test(task, datamodule=TinyDataModule(), verbose=False)
    content, text = summary(Path("lightning_logs/version_0"))
    assert content["balance"] is None
    assert "weights" not in text


@pytest.mark.parametrize(("teacher", "caution"), [(0.4333, "(43.33 %)"), (0.75, ""), (0.9, "")])
def test_a_teacher_that_is_worse_than_the_student_without_it_is_named(teacher: float, caution: str) -> None:
    found = worse_teacher({"test_accuracy": teacher}, {"test_accuracy": 0.75})
    assert found.startswith(f"the teacher is worse {caution} than the student without it (75.00 %)" if caution else "")
    assert bool(found) == bool(caution)
    assert worse_teacher({"test_accuracy": None}, {"test_accuracy": 0.75}) == worse_teacher(None, None) == ""
