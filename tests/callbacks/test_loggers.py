"""TensorBoard, CSV and other loggers get what a run is trained with, its curves, and pictures of its test."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch import Callback, Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData  # type: ignore[import-untyped]
from tiny import TinyDataModule, TinyNetwork
from torch.optim import SGD
from torch.optim.lr_scheduler import MultiStepLR
from training_example import NO_EXPORT, fit

from kd_lightning.callbacks import LogTestPictures, log_test_pictures, pictures
from kd_lightning.callbacks.curves import Curves
from kd_lightning.callbacks.hyperparameters import hyperparameters
from kd_lightning.losses import CrossEntropy, SoftTargets
from kd_lightning.tasks import Classifier, Distill
from kd_lightning.teacher import Teacher

STUDENT = "lightning_logs/student/version_0"


def events(folder: str = STUDENT) -> Any:
    return EventAccumulator(folder).Reload()


def row(found: Any) -> dict[str, Any]:
    """Return the run's row of the HPARAMS tab."""
    content = found.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    values = HParamsPluginData.FromString(content).session_start_info.hparams
    return {name: getattr(value, value.WhichOneof("kind")) for name, value in values.items()}


def test_a_run_fills_the_hparams_tab_and_every_curve_has_a_point_an_epoch(temp_folder: Path) -> None:
    done = fit("student.yaml", NO_EXPORT, "--trainer.log_every_n_steps=1")
    found = events()
    curves = {"accuracy", "labels", "loss"}
    names = {f"{stage}/{name}" for stage in ("train", "val") for name in curves}
    assert set(found.Tags()["scalars"]) == names | {"learning_rate"}
    assert [point.value for point in found.Scalars("learning_rate")] == pytest.approx([5e-5, 5e-5])
    assert len({point.step for point in found.Scalars("val/accuracy")}) == 2
    values = row(found)
    wanted = {"task": "Classifier", "network": "LightNN", "network.dropout": 0.1, "losses.labels": "CrossEntropy"}
    wanted |= {
        "losses.labels.weight": 1,
        "optimizer": "Adam",
        "data.batch_size": 32,
        "trainer.max_epochs": 2,
        "seed": 0,
    }
    assert values | wanted == values
    assert values["optimizer.lr"] == pytest.approx(5e-5)
    assert values["_test/accuracy"] == pytest.approx(float(done.trainer.callback_metrics["test/accuracy"]))
    metrics = found.SummaryMetadata("_hparams_/experiment").plugin_data.content
    assert {info.name.tag for info in HParamsPluginData.FromString(metrics).experiment.metric_infos} == names
    assert found.Tags()["images"] == ["training images", "test/confusion matrix", "test/mistakes"]


def test_a_csv_file_keeps_the_test_and_the_epoch_and_has_the_options_beside_it(temp_folder: Path) -> None:
    fit("student.yaml", NO_EXPORT, "--trainer.logger=CSVLogger", "--trainer.logger.save_dir=logs")
    folder = Path("logs/lightning_logs/version_0")
    with (folder / "metrics.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["epoch"] for line in lines if line["val/labels"]] == ["0", "1"]
    assert sum(line["test/accuracy"] != "" for line in lines) == 1
    assert yaml.safe_load((folder / "hparams.yaml").read_text())["losses.labels"] == "CrossEntropy"


class Stop(Callback):
    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt


def test_a_stopped_run_is_in_the_hparams_tab_too(temp_folder: Path) -> None:
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit("student.yaml", NO_EXPORT, "--trainer.callbacks=test_loggers.Stop")
    values = row(events())
    assert values["network"] == "LightNN"
    assert not any(name.startswith("_test/") for name in values)


def test_hyperparameters_name_the_teacher_each_loss_and_the_schedule(tmp_path: Path) -> None:
    losses = {"labels": CrossEntropy(weight=0.1), "kd": SoftTargets(temperature=2.0, warm_up=3)}
    task = Distill(
        TinyNetwork(),
        Teacher(TinyNetwork()),
        losses,
        optimizer=lambda parameters: SGD(parameters, lr=0.1, momentum=0.9),
        lr_scheduler=lambda optimizer: MultiStepLR(optimizer, [4, 6]),
    )
    trainer = Trainer(max_epochs=1, accelerator="cpu", logger=False, default_root_dir=tmp_path)
    seen: dict[str, Any] = {}
    trainer.callbacks.append(Watch(lambda: seen.update(hyperparameters(task))))  # type: ignore[attr-defined]
    trainer.fit(task, datamodule=TinyDataModule())
    wanted = {"teacher": "TinyNetwork", "teacher.weights": "none", "losses.kd": "SoftTargets", "losses.kd.warm_up": 3}
    wanted |= {"losses.kd.temperature": 2.0, "losses.kd.weight": 0.9, "losses.labels.weight": 0.1}
    wanted |= {"optimizer.momentum": 0.9, "lr_scheduler": "MultiStepLR", "lr_scheduler.milestones": "4, 6"}
    assert seen | wanted == seen
    assert all(isinstance(value, bool | int | float | str) for value in seen.values())


class Watch(Callback):
    def __init__(self, look: Any) -> None:
        self.look = look

    def on_train_start(self, *_: Any) -> None:
        self.look()


def test_the_mistakes_are_the_most_confident_with_what_the_teacher_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    drawn: dict[str, Any] = {}
    monkeypatch.setattr(pictures, "mistakes_picture", lambda mistakes, title: note("mistakes", (mistakes, title)))
    monkeypatch.setattr(pictures, "confusion_picture", lambda counts, names: note("counts", counts))

    def note(name: str, what: Any) -> Any:
        drawn[name] = what
        return torch.zeros(4, 4, 3, dtype=torch.uint8).numpy()

    torch.manual_seed(0)
    data = TinyDataModule()
    task = Distill(TinyNetwork(), Teacher(TinyNetwork()), {"labels": CrossEntropy(), "kd": SoftTargets()})
    logger = Curves(str(tmp_path), "run")
    Trainer(accelerator="cpu", logger=logger, callbacks=[LogTestPictures()]).test(task, datamodule=data)
    (images, labels), rows = data.test_rows()
    task.eval()
    batch = data.normalization.apply(images.permute(0, 3, 1, 2)[rows])
    with torch.no_grad():
        shares = task.network(batch).softmax(1)
        teacher = task.teacher.networks[0](batch).softmax(1)
    predicted, labels = shares.argmax(1), labels[rows]
    counts = torch.zeros(4, 4, dtype=torch.int64)
    for label, guess in zip(labels, predicted, strict=True):
        counts[label, guess] += 1
    assert torch.equal(drawn["counts"], counts)
    wrong = [index for index in range(len(labels)) if labels[index] != predicted[index]]
    first = max(wrong, key=lambda index: float(shares[index].max()))
    mistakes, title = drawn["mistakes"]
    assert title.startswith(f"the 24 most confident of {len(wrong)} mistakes on {len(labels)} test images")
    worst, names = mistakes[0], data.class_names
    assert torch.equal(worst.image, images[rows[first]])
    assert (worst.true, worst.predicted[0]) == (names[labels[first]], names[predicted[first]])
    assert worst.predicted[1] == pytest.approx(float(shares[first].max()), abs=1e-5)
    assert worst.teacher == (names[teacher[first].argmax()], pytest.approx(float(teacher[first].max()), abs=1e-5))


def test_a_matrix_that_cannot_be_read_is_left_out_with_a_line(
    monkeypatch: pytest.MonkeyPatch, temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(log_test_pictures, "MAX_CLASSES", 3)
    logger = Curves(str(temp_folder), "run")
    task = Classifier(TinyNetwork())
    Trainer(accelerator="cpu", logger=logger, callbacks=[LogTestPictures()]).test(task, datamodule=TinyDataModule())
    assert "no confusion matrix: it cannot be read for 4 classes." in capsys.readouterr().out
    assert events(logger.log_dir).Tags()["images"] == ["test/mistakes"]


def test_any_name_of_a_class_is_drawn_as_it_is() -> None:
    names = ["$a_{b", "猫", "\x1b[31m", "a very long name of a class that has no end"]
    picture = pictures.confusion_picture(torch.eye(4, dtype=torch.int64), names)
    assert picture.shape[2] == 3
    assert (picture < 128).any()
    grey = pictures.Mistake(torch.full((8, 8, 1), 7, dtype=torch.uint8), names[0], (names[1], 1.0), (names[3], 0.5))
    assert (pictures.mistakes_picture([grey], "$a_{b") == 7).all(2).sum() > 1000  # the image's own pixels
