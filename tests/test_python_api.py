"""What ``from kd_lightning import ...`` gives: the names, the trainer, the study; and the snippets of the pages."""

import ast
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from functools import partial
from inspect import getdoc, signature
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from compare_example import example_study
from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]
from tiny import TinyDataModule, TinyNetwork

import kd_lightning
from kd_lightning import Classifier, CosineDistill, Distill, Task, Teacher, UserError, losses, make_trainer
from kd_lightning.callbacks import export_onnx
from kd_lightning.commands import compare as commands_compare
from kd_lightning.compare.study import Request
from kd_lightning.data import CIFAR10DataModule, ShapesDataModule
from kd_lightning.networks import DeepNN
from kd_lightning.networks.weights import load_model
from kd_lightning.report.analysis import Analysis, analyse
from kd_lightning.report.result import StudyResult
from kd_lightning.tasks import Distill as SameDistill
from kd_lightning.tasks.schedules import OneCycle
from kd_lightning.training.run_files import RunFiles
from kd_lightning.training.trainer import RunTrainer

ROOT = Path(__file__).parents[1]
TUTORIAL = ("teacher", "alone", "soft_targets", "cosine", "regressor")
NO_ONNX = {"onnx": None}
QUIET: dict[str, Any] = {"accelerator": "cpu", "enable_progress_bar": False}


def tiny_trainer(name: str = "mine", **options: Any) -> RunTrainer:
    return make_trainer(name, files=NO_ONNX, **({"max_epochs": 1} | QUIET | options))


def names_for_type_checkers() -> set[str]:
    tree = ast.parse((ROOT / "kd_lightning" / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    return {name.name for node in block.body if isinstance(node, ast.ImportFrom) for name in node.names}


def test_editors_dir_and_imports_know_the_same_names() -> None:
    names = {*kd_lightning.__all__}
    assert names == names_for_type_checkers() | {"compare"}
    assert names <= {*dir(kd_lightning)}
    assert all(getattr(kd_lightning, name) is not None for name in names)
    assert Distill is SameDistill


def test_every_network_and_data_source_is_a_name_of_the_package() -> None:
    assert {*kd_lightning.networks.__all__, *kd_lightning.data.__all__} <= {*kd_lightning.__all__}


def test_the_package_is_imported_without_torch_and_compare_stays_a_function() -> None:
    program = "import sys, kd_lightning; assert not {'torch', 'lightning', 'numpy', 'rich'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert "kd_lightning.compare.results" in sys.modules
    assert callable(kd_lightning.compare)


def test_a_misspelt_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Destill'"):
        kd_lightning.Destill  # noqa: B018


@pytest.mark.parametrize("kind", [Classifier, Distill, CosineDistill, CIFAR10DataModule])
def test_help_shows_every_option_and_describes_it(kind: type) -> None:
    base = Task if issubclass(kind, Task) else kd_lightning.ImageDataModule
    filled_in = {"network", "losses", "teacher_shapes"}
    shown = signature(kind).parameters
    assert {*signature(base).parameters} - filled_in <= {*shown}
    assert "options" not in shown
    described = re.findall(r"^    (\w+): ", getdoc(kind) or "", re.MULTILINE)
    assert [name for name in described if name in shown] == [*shown]


def test_a_class_of_ones_own_shows_the_options_of_its_bases() -> None:
    class Mine(Distill):
        """Mine.

        Args:
            strength: How much.
        """

        def __init__(self, network: Any, strength: float = 1.0, **options: Any) -> None: ...

    assert [*signature(Mine).parameters][:3] == ["network", "strength", "cache_teacher"]
    assert "strength: How much.\n    cache_teacher: Whether" in (Mine.__doc__ or "")


def shown_in_tensorboard(folder: Path) -> set[str]:
    tags = EventAccumulator(str(folder)).Reload().Tags()
    return {*tags["scalars"], *tags["images"]}


def test_the_trainer_gives_a_run_what_fit_gives_it(temp_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = TinyDataModule()
    trainer = tiny_trainer()
    assert isinstance(trainer, Trainer)
    task = Distill(TinyNetwork(), Teacher(TinyNetwork()), {"kd": losses.SoftTargets()})
    trainer.fit(task, datamodule=data)
    (measured,) = trainer.test(task, datamodule=data)
    folder = Path("lightning_logs/mine/version_0")
    assert trainer.folder == folder
    logged = {path.name for path in folder.rglob("*") if not path.name.startswith("events.")}
    written = {"README.md", "weights.pth", "summary.json", "summary.txt", "hparams.yaml"}
    assert logged == written | {"checkpoints", "best.ckpt", "last.ckpt"}
    assert {"training images", "val/accuracy"} <= shown_in_tensorboard(folder)
    values = trainer.summary.values
    assert values["metrics"]["test/accuracy"] == measured["test/accuracy"]
    assert values == json.loads((folder / "summary.json").read_text())
    assert f"Files in {folder}" in capsys.readouterr().out
    assert "Summary of mine" in repr(trainer.summary)
    assert trainer.summary._repr_html_().startswith("<pre>")


def test_the_weights_of_a_run_are_the_next_ones_teacher(temp_folder: Path) -> None:
    trainer, big = tiny_trainer("teacher"), Classifier(TinyNetwork(width=8))
    with pytest.raises(UserError, match=r"call trainer\.fit"):
        _ = trainer.weights
    with pytest.raises(UserError, match=r"call trainer\.test"):
        _ = trainer.summary
    trainer.fit(big, datamodule=TinyDataModule())
    teacher = Teacher(TinyNetwork(width=8), weights=trainer.weights)
    assert torch.equal(teacher.network.head.weight, big.network.head.weight)  # type: ignore[union-attr, arg-type]
    assert Teacher(TinyNetwork(width=8), weights=Path(trainer.weights)).weights == trainer.weights  # type: ignore[arg-type]
    assert load_model(trainer.weights)[1].epochs == 1


def test_a_run_without_validation_images_keeps_no_best_checkpoint(temp_folder: Path) -> None:
    trainer, data = tiny_trainer(), TinyDataModule(val_size=0)
    trainer.fit(Classifier(TinyNetwork()), datamodule=data)
    assert [path.name for path in Path().rglob("*.ckpt")] == ["last.ckpt"]


def test_a_smoke_test_writes_nothing(temp_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer, task = tiny_trainer(fast_dev_run=True), Classifier(TinyNetwork())
    trainer.fit(task, datamodule=TinyDataModule())
    trainer.test(task, datamodule=TinyDataModule())
    assert "Smoke test" in capsys.readouterr().out
    assert not list(Path().iterdir())


class PressCtrlC(Callback):
    """Presses Ctrl-C in the first epoch's second step."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == 1 and trainer.current_epoch == 0:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("same", [True, False])
def test_ctrl_c_is_answered_by_the_call_that_goes_on(temp_folder: Path, same: bool) -> None:
    data, torch_seed = TinyDataModule(shuffle_seed=0), torch.manual_seed
    torch_seed(0)
    undisturbed = Classifier(TinyNetwork())
    tiny_trainer("other", max_epochs=2).fit(undisturbed, datamodule=data)
    torch_seed(0)
    task, trainer = Classifier(TinyNetwork()), tiny_trainer(max_epochs=2, callbacks=PressCtrlC())
    with pytest.raises(KeyboardInterrupt, match=r"2 steps saved\. Go on from there with trainer\.fit\(.*last\.ckpt"):
        trainer.fit(task, datamodule=data)
    if not same:
        task, trainer = Classifier(TinyNetwork()), tiny_trainer(max_epochs=2)
    trainer.fit(task, datamodule=TinyDataModule(shuffle_seed=0), ckpt_path="last")
    for name, values in undisturbed.network.state_dict().items():
        assert torch.equal(values, task.network.state_dict()[name]), name


def test_the_best_checkpoint_is_measured(temp_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer, task, data = tiny_trainer(max_epochs=2), Classifier(TinyNetwork()), TinyDataModule()
    with pytest.raises(UserError, match="has a best checkpoint"):
        trainer.test(task, datamodule=data, ckpt_path="best")
    trainer.fit(task, datamodule=data)
    trainer.test(task, datamodule=data, ckpt_path="best")
    trainer.validate(task, datamodule=data, ckpt_path="last")
    assert re.findall(r"Checkpoint: .*checkpoints/(\w+)", capsys.readouterr().out) == ["best", "last"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (partial(make_trainer, "mine", epochs=3), r"Trainer has no option 'epochs' \(did you mean max_epochs\?\)"),
        (partial(make_trainer, "mine", files={"onx": None}), r"files has no option 'onx' \(did you mean onnx\?\)"),
        (partial(make_trainer, "a/b"), "called 'a/b'"),
        (partial(make_trainer, ""), "called ''"),
        (partial(Classifier, TinyNetwork(), optimizer="Adam"), r"optimizer is 'Adam'.*partial\(torch\.optim\.AdamW"),
        (partial(Classifier, TinyNetwork(), lr_scheduler=3), r"lr_scheduler is 3"),
    ],
)
def test_a_mistake_is_a_sentence(call: Any, message: str, temp_folder: Path) -> None:
    with pytest.raises(UserError, match=message):
        call()
    assert not list(Path().iterdir())


def test_data_of_other_classes_are_refused_in_a_sentence(temp_folder: Path) -> None:
    with pytest.raises(UserError, match="classes"):
        tiny_trainer().fit(Classifier(TinyNetwork(num_classes=10)), datamodule=TinyDataModule())


@pytest.mark.parametrize(
    ("optimizer", "schedule", "rate"),
    [
        (partial(torch.optim.AdamW, lr=3e-3), partial(torch.optim.lr_scheduler.StepLR, step_size=1), 3e-4),
        (torch.optim.Adam, None, 1e-3),
        (lambda parameters: torch.optim.SGD(parameters, lr=0.1), OneCycle, 1e-5),
    ],
)
def test_optimizers_and_schedules_are_what_people_write(
    optimizer: Any, schedule: Any, rate: float, temp_folder: Path
) -> None:
    trainer = tiny_trainer()
    trainer.fit(Classifier(TinyNetwork(), optimizer=optimizer, lr_scheduler=schedule), datamodule=TinyDataModule())
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(rate)


@pytest.fixture(scope="module")
def result() -> StudyResult:
    return StudyResult(analyse(example_study(images=200, epochs=2)), Path("report.html"))


def test_a_study_gives_its_rows_with_their_numbers(result: StudyResult) -> None:
    teacher, student, cosine, _ = result.rows
    analysis = result.analysis.rows[2]
    assert (teacher.role, student.role, cosine.role) == ("teacher", "baseline", "student")
    assert (student.difference, student.interval, student.p, student.verdict) == (None,) * 4
    assert cosine.runs == len(analysis.row.runs) == 5
    assert cosine.mean == pytest.approx(sum(run.test_accuracy for run in analysis.row.runs) / 5)
    assert cosine.mean is not None
    assert student.mean is not None
    assert cosine.difference == pytest.approx(cosine.mean - student.mean)
    assert analysis.comparison is not None
    assert cosine.interval == analysis.comparison.test.interval
    assert cosine.p == analysis.comparison.adjusted_p
    assert cosine.verdict == str(analysis.comparison.verdict)


def test_a_study_is_shown_in_lines_and_as_html(result: StudyResult) -> None:
    shown = repr(result)
    assert shown.startswith(result.headline)
    assert f"  cosine: {100 * (result.rows[2].mean or 0):.2f} ± " in shown
    assert "Report: report.html" in shown
    page = result._repr_html_()
    assert page.count("<tr>") == 1 + 4
    assert result.headline in page


def test_the_table_of_a_study_is_a_data_frame(result: StudyResult) -> None:
    pytest.importorskip("pandas")
    table = result.table()
    assert [*table.index] == ["teacher", "student", "cosine", "regress"]
    assert table.loc["cosine", "low"] < table.loc["cosine", "difference"] < table.loc["cosine", "high"]


def test_a_table_without_pandas_is_a_sentence(result: StudyResult, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match="pip install pandas"):
        result.table()


@pytest.fixture
def small_world(temp_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A CIFAR-10 of a hundred drawn images, and an untrained teacher's file."""
    monkeypatch.setattr(export_onnx, "rehearse_export", lambda *args: None)
    monkeypatch.setattr(RunFiles.__init__, "__defaults__", ("weights.pth", "ImagePredictor.onnx", None, None))
    numbers = np.random.default_rng(0)
    images, labels = numbers.integers(0, 256, (100, 32, 32, 3), dtype=np.uint8), [*range(10)] * 10
    monkeypatch.setattr(CIFAR10DataModule, "read", lambda self, train: (images, labels))
    monkeypatch.setattr(ShapesDataModule.__init__, "__defaults__", (100, 50, 32, "auto"))
    torch.save(DeepNN().state_dict(), "NNDeep.pth")
    Image.fromarray(images[0]).save("cat.jpg")


def quick(code: str) -> str:
    """Let each training of a program take one step, and export nothing."""
    options = "max_epochs=1, limit_train_batches=1, enable_progress_bar=False, files={'onnx': None}"
    return re.sub(r"max_epochs=\w+", options, code)


def snippets(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_the_snippets_of_a_page_run(
    page: str, small_world: None, result: StudyResult, fp32: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def study_of(request: Request, args: list[str], console: object) -> tuple[Analysis, Path]:
        asked.append((request.name, request.study.seeds))
        return result.analysis, result.page

    monkeypatch.setattr(commands_compare, "compare", study_of)
    monkeypatch.setitem(sys.modules, "pandas", MagicMock())
    for number, code in enumerate(snippets(page)):
        if model := re.search(r'predict_image\(".*?", "(.*?)"\)', code):
            shutil.copy(fp32, model[1])
        exec(compile(quick(code), f"{page} {number}", "exec"), {"__name__": "__main__"})
    assert asked == ([("quickstart_compare", 5)] if page == "docs/python.md" else [])
    assert list(Path("lightning_logs").glob("*/version_0/summary.json"))


def test_the_smallest_example_runs(small_world: None) -> None:
    code = (ROOT / "examples" / "minimal.py").read_text(encoding="utf-8")
    exec(compile(quick(code), "minimal.py", "exec"), {"__name__": "__main__"})
    assert Path("lightning_logs/minimal/version_0/weights.pth").is_file()


def test_the_tutorial_runs_cell_by_cell(small_world: None, capsys: pytest.CaptureFixture[str]) -> None:
    notebook = json.loads((ROOT / "examples" / "tutorial.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells)
    names: dict[str, Any] = {}
    for number, cell in enumerate(cells):
        exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
        if cell["metadata"].get("tags") == ["parameters"]:
            names |= {"epochs": 1, "batches": 1}
    assert [*names["accuracy"]] == [f"tutorial_{name}" for name in TUTORIAL]
    assert names["label"] in names["data"].class_names
    assert "LightNN 267,738 parameters" in capsys.readouterr().out
