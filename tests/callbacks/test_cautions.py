"""Cautions at the start: printed where a teacher can hardly help, with what to set, and never elsewhere."""

import re
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from fast_example import train
from recorded_graph import Captures
from task_example import light
from torch.optim import SGD

from kd_lightning.callbacks import of_task
from kd_lightning.callbacks.cautions import Cautions, of_accuracy
from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.losses import CrossEntropy, FeatureRegression, SoftTargets
from kd_lightning.networks import DeepNN
from kd_lightning.tasks import Distill
from kd_lightning.teacher import Teacher

INFO = ModelInfo("LightNN", {}, ("ant", "bee"), (0.0,), (1.0,), 8, "ants", accuracy=0.8)


@pytest.mark.parametrize(
    ("accuracy", "expected"),
    [
        (0.79, r"^the teacher is worse \(79\.00 %\) than the student without it \(80\.00 %\); train it longer, or "),
        (0.805, r"^the teacher \(80\.50 %\) is hardly better than the student without it \(80\.00 %\); train it "),
        (0.82, "^$"),
        (None, "^$"),
    ],
)
def test_a_teacher_that_is_not_better_than_the_baseline_is_named(accuracy: float | None, expected: str) -> None:
    assert re.search(expected, of_accuracy(replace(INFO, accuracy=accuracy), INFO))
    assert of_accuracy(replace(INFO, accuracy=accuracy, data="bees"), INFO) == ""  # accuracies on other images
    assert of_accuracy(None, INFO) == ""


def distill(fast: bool, kd: float = 1.0, sharp: float = 3.0, temperature: float = 1.0, maps: float = 10.0) -> Distill:
    torch.manual_seed(3)
    teacher = DeepNN(num_classes=4, image_size=8)
    with torch.no_grad():
        for values in list(teacher.classifier.parameters())[-2:]:
            values.mul_(sharp)
    losses = {
        "labels": CrossEntropy(),
        "kd": SoftTargets(temperature, weight=kd),
        "maps": FeatureRegression("features", weight=maps),
    }
    return Distill(light(), Teacher(teacher), losses, fast=fast, optimizer=partial(SGD, lr=2**-7, fused=True))


def cautions(capsys: pytest.CaptureFixture[str], fast: bool = False, **options: Any) -> list[str]:
    train(partial(distill, **options), fast, {"count": 150 if fast else 60}, max_epochs=1)
    text = " ".join(capsys.readouterr().out.split())
    return re.findall(r"Caution: (.*?)\.(?= [A-Z]|$)", text)


def test_a_fair_teacher_needs_no_caution(capsys: pytest.CaptureFixture[str]) -> None:
    assert cautions(capsys) == []


def test_a_loss_that_hardly_counts_or_drowns_the_labels_comes_with_a_weight_that_does_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    weak, strong = cautions(capsys, kd=1e-4, maps=300)
    assert re.search(r"loss 'kd' is [0-9.e-]+ % as long as the labels', so that it hardly counts; ", weak)
    assert re.search(r"loss 'maps' is \d+ times as long as the labels', so that the labels hardly count; ", strong)
    weights = [float(re.search(r"weight (\S+) both", line)[1]) for line in (weak, strong)]  # type: ignore[index]
    assert cautions(capsys, kd=weights[0], maps=weights[1]) == []


def test_a_teacher_that_is_certain_of_all_images_needs_a_higher_temperature(
    capsys: pytest.CaptureFixture[str], captured_on_cpu: Captures
) -> None:
    [line] = cautions(capsys, fast=True, sharp=3000.0)
    assert re.search(r"certain of 100 % .* temperature 1 of the loss 'kd', .*losses\.kd\.temperature to 4 ", line)
    assert captured_on_cpu.replays
    assert cautions(capsys, sharp=3000.0, temperature=3000.0, kd=0.01) == []


def test_a_measured_run_is_the_same_to_the_last_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    measured = train(distill, False, {"count": 60}, max_epochs=1)[1]
    monkeypatch.setattr(of_task, "KINDS", tuple(kind for kind in of_task.KINDS if kind is not Cautions))
    plain = train(distill, False, {"count": 60}, max_epochs=1)[1]
    for name, values in plain.state_dict().items():
        assert torch.equal(values, measured.state_dict()[name]), name
