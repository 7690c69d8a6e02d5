"""The model card of a run says what was measured, and no more."""

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from tiny import TinyDataModule, TinyNetwork
from weights_example import info_of

from kd_lightning.callbacks.model_card import model_card
from kd_lightning.cli import main
from kd_lightning.export import ExportReport, Row
from kd_lightning.export.verify import Measured
from kd_lightning.networks.weights import load_model, save_weights

TINY = ["--config=student.yaml", "--data=tiny.TinyDataModule", "--data.count=64", "--model.network=tiny.TinyNetwork"]
TRAINER = ["accelerator=cpu", "enable_progress_bar=false", "max_epochs=1"]
FIT = ["fit", *TINY, *(f"--trainer.{option}" for option in TRAINER), "--files.onnx=null"]
RUNS = Path("lightning_logs/student")


def card(run: Path) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """Return a card's front matter and text, and the run's summary."""
    _, front, text = (run / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(front), text, json.loads((run / "summary.json").read_text())


def test_a_card_has_the_numbers_of_the_run_and_its_commands_work(
    temp_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*FIT, "--files.weights=small net.pth"]) == 0
    front, text, summary = card(RUNS / "version_0")
    assert (front["library_name"], front["metrics"]) == ("kd_lightning", ["accuracy"])
    assert front["tags"] == ["image-classification"]
    assert "license" not in front
    assert "datasets" not in front  # the hub has none of this name
    result = front["model-index"][0]["results"][0]
    assert result["metrics"] == [{"type": "accuracy", "value": round(summary["metrics"]["test/accuracy"], 4)}]
    assert "| data | Tiny: 4 classes, 61 training, 3 validation, 64 test images |" in text
    assert f"| accuracy | {100 * summary['metrics']['test/accuracy']:.2f} % on the test images |" in text
    assert "- `small net.pth`: 0.00 MB\n" in text
    assert "shade 0, shade 1, shade 2, shade 3" in text
    assert "teacher" not in text
    assert "ONNX" not in text
    monkeypatch.chdir(RUNS / "version_0")
    Image.new("RGB", (9, 9)).save("photo.jpg")
    command = next(line for line in text.splitlines() if line.startswith("kd-lightning predict"))
    assert main(shlex.split(command)[1:]) == 0
    code = text.partition("```python\n")[2].partition("```")[0]
    found: dict[str, Any] = {}
    exec(code, found)
    assert found["label"].startswith("shade ")


def test_a_card_of_a_distilled_resumed_and_partly_tested_run_claims_no_more_than_it_measured(temp_folder: Path) -> None:
    info = replace(info_of(TinyNetwork()), class_names=TinyDataModule().class_names)
    save_weights("teacher.pth", TinyNetwork(), info)
    distill = ["--model=Distill", "--model.losses={kd: SoftTargets}", "--model.teacher=Teacher"]
    distill += ["--model.teacher.network=tiny.TinyNetwork"]
    options = [*FIT, *distill, "--model.teacher.weights=teacher.pth", "--files.weights=model.safetensors"]
    options += ["--data.val_size=0"]
    assert main(options) == 0
    resumed = f"--ckpt_path={RUNS}/version_0/checkpoints/last.ckpt"
    partly = ["--trainer.limit_test_batches=1", "--data.eval_batch_size=16", "--trainer.max_epochs=2"]
    assert main([*options, resumed, *partly]) == 0
    front, text, _ = card(RUNS / "version_1")
    assert front["tags"] == ["image-classification", "knowledge-distillation"]
    assert "model-index" not in front
    assert "| trained | TinyNetwork (140 parameters) by Distill for 2 epochs |" in text
    assert "64 training, 0 validation, 16 of 64 test images" in text
    assert "Its losses: `SoftTargets`." in text
    assert "on the validation images" not in text
    assert "ONNX" not in text
    assert "predict photo.jpg --model model.safetensors" in text


def test_a_card_lists_the_exported_files_that_passed_and_tells_how_the_others_failed(temp_folder: Path) -> None:
    assert main(FIT) == 0
    run, (_, _, summary) = RUNS / "version_0", card(RUNS / "version_0")
    files = [run / "a.onnx", run / "b.rejected.onnx"]
    for path in files:
        path.write_bytes(b"")
    measured = [Measured(1e-6, 1.0, 0.75, 0.0), Measured(0.5, 0.9, 0.5, -25.0)]
    rows = [
        Row("fp32", files[0], 10, 1.0, measured[0]),
        Row("static", files[1], 5, 2.0, measured[1], failure="it is bad"),
    ]
    text = model_card(summary, load_model(run / "NNLight.pth")[1], ExportReport(rows), files)
    assert text is not None
    assert "- onnx\n" in text
    assert "- `a.onnx`" in text
    assert "- `b.rejected.onnx`" not in text
    assert "it is bad" in text
    assert "--model a.onnx" in text
    assert model_card(summary, load_model(run / "NNLight.pth")[1], None, files[1:]) is None


def test_a_run_that_keeps_no_model_has_no_card(temp_folder: Path) -> None:
    assert main([*FIT, "--trainer.accumulate_grad_batches=9", "--trainer.max_steps=0"]) != 0
    assert not list(Path().rglob("README.md"))
