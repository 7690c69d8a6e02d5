import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TinyDataModule

from kd_lightning.benchmark.loops import PerImage, usual_task, usual_transforms
from kd_lightning.benchmark.measure import Loop
from kd_lightning.benchmark.noise import Noise
from kd_lightning.benchmark.report import to_text
from kd_lightning.cli import main
from kd_lightning.data.augment import HorizontalFlip, Mixup, RandomCrop
from kd_lightning.data.loader import BatchLoader
from kd_lightning.networks import LightNN
from kd_lightning.tasks import Classifier

PARTS = ["data", "teacher", "student", "backward", "optimizer", "rest"]
TINY = ["--data=tiny.TinyDataModule", "--data.batch_size=32"]
FAST = "--model.fast=true"
QUICK = [*TINY, "--trainer.accelerator=cpu", "--steps=2", "--rounds=2", "--output=out.json"]


def benchmark(config: str, *options: str) -> dict[str, Any]:
    assert main(["benchmark", f"--config={config}", *QUICK, *options]) == 0
    result: dict[str, Any] = json.loads(Path("out.json").read_text())
    return result


def test_a_distillation_is_timed_as_usual_with_the_teacher_and_with_a_cached_one(
    temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = benchmark("cosine.yaml", "--workers=1", "--images=6400", "--data.val_size=0", FAST)
    usual, ours, cached, fast = result["loops"]
    assert [loop["name"] for loop in result["loops"]][1:] == ["ours, plain", "ours, teacher cached", "ours, fast"]
    assert capsys.readouterr().out == to_text(result) + "\n"
    assert (result["network"], result["teacher"], result["image_shape"]) == ("LightNN", "DeepNN", [8, 8, 3])
    for loop in (usual, ours, cached, fast):
        assert len(loop["seconds_a_step"]) == 2
        assert list(loop["seconds_of_a_step"]) == ([] if loop is fast else PARTS)
        assert loop["seconds_an_epoch"] == pytest.approx(6400 / loop["images_a_second"])
        assert loop["seconds_full_run"] == pytest.approx(50 * loop["seconds_an_epoch"] + loop["seconds_once"])
    assert usual["times_faster"] == {"median": 1, "lowest": 1, "highest": 1}
    assert usual["seconds_of_a_step"]["teacher"] > 0
    assert cached["seconds_of_a_step"]["teacher"] < usual["seconds_of_a_step"]["teacher"] / 5  # a look-up
    expected = fast["images_a_second"] / usual["images_a_second"]
    assert fast["times_faster"]["lowest"] <= expected <= fast["times_faster"]["highest"]
    assert cached["seconds_once"] == pytest.approx(6400 / 32 * ours["seconds_of_a_step"]["teacher"])
    assert not [path for path in temp_folder.iterdir() if path.name != "out.json"]  # no run, no weights, no teacher


def test_a_teacher_that_is_cached_in_views_and_a_validation_are_timed_and_counted_in_the_full_run(
    temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    augment = "--data.augment=[RandomCrop, HorizontalFlip, Cutout]"
    options = ["--workers=0", "--images=6400", "--data.val_size=100", "--data.batch_size=80", "--data.views=8"]
    result = benchmark("regress.yaml", augment, *options)  # a batch has more images than the noise has different ones
    assert [loop["name"] for loop in result["loops"]][1:] == ["ours, plain", "ours, teacher cached"]
    images = 8 * 6400 + 100
    size = 9 * 6500 * 32 * 2 * 2 * 4  # a row an image, for eight views and for the image as it is
    assert result["tables"] == {"views": 8, "images": images, "bytes": size, "place": "in memory"}
    ours, cached = result["loops"][1:]
    assert cached["seconds_once"] == pytest.approx(images / 80 * ours["seconds_of_a_step"]["teacher"])
    measured = result["seconds_validation"]
    assert (result["val_images"], len(measured)) == (100, 2)
    full = cached["seconds_once"] + 50 * (cached["seconds_an_epoch"] + sum(measured) / 2)
    assert cached["seconds_full_run"] == pytest.approx(full)
    text = capsys.readouterr().out
    assert "Validation of 100 images takes" in text
    assert "for 51,300 images, and 30.0 MB in memory." in text
    assert "The usual loop does without Cutout." in text


def test_the_usual_loop_augments_each_image_as_torchvision_does() -> None:
    noise = Noise(TinyDataModule(augment=[RandomCrop(padding=2), HorizontalFlip(1.0), Mixup()]), batches=2)
    noise.setup("fit")
    found, missing = usual_transforms(noise)
    assert ([type(step).__name__ for step in found], missing) == (["RandomCrop", "RandomHorizontalFlip"], ["Mixup"])
    assert PerImage(noise)[0][0].shape == (3, 8, 8)


def test_a_teacher_that_cannot_be_cached_is_timed_in_every_step_and_the_reason_is_printed(
    temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = benchmark("regress.yaml", "--workers=0", "--data.augment=[RandomCrop]", FAST)
    assert len(result["loops"]) == 3
    assert "RandomCrop in --data.augment" in result["teacher_not_cached"]
    assert "The teacher runs in every step: RandomCrop" in capsys.readouterr().out


def test_a_classifier_has_no_teacher_to_time_and_on_a_cpu_its_run_is_the_plain_one(
    temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = benchmark("student.yaml", "--workers=0")
    assert (result["teacher"], result["teacher_not_cached"]) == (None, None)
    assert [loop["name"] for loop in result["loops"]][1:] == ["ours, plain"]
    text = capsys.readouterr().out
    assert "steps one by one: on a CPU many in one call save less than a tenth; --model.fast true measures" in text
    assert "s an epoch; ours, plain, " in text
    assert [loop["seconds_of_a_step"]["teacher"] for loop in result["loops"][:2]] == [0, 0]


def test_the_fast_path_is_compared_with_the_bare_step(temp_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = benchmark("student.yaml", "--workers=0", "--images=6400", FAST)
    floor, fast = result["floor"], result["loops"][-1]
    ratios = [own / bare for own, bare in zip(fast["seconds_a_step"], floor["seconds_a_step"], strict=True)]
    assert floor["ours_takes_times"] == {"median": sum(ratios) / 2, "lowest": min(ratios), "highest": max(ratios)}
    assert floor["seconds_an_epoch"] == pytest.approx(sum(floor["seconds_a_step"]) / 2 * 6400 / 32)
    assert "The bare step without Lightning" in capsys.readouterr().out


def test_a_number_that_makes_no_sense_is_answered_in_one_sentence(
    temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["benchmark", "--config=student.yaml", *QUICK, "--rounds=0"]) == 2
    assert capsys.readouterr().err == "error: --rounds is 0, but it must be 1 or more.\n"


def test_the_usual_loop_runs_layer_after_layer_with_the_same_values() -> None:
    task = Classifier(LightNN(), compiled=True)
    usual = usual_task(task, torch.device("cpu"))
    images = torch.randn(4, 3, 32, 32)
    ran: list[torch.nn.Module] = []
    for layer in usual.network.features:  # type: ignore[union-attr]
        layer.register_forward_hook(lambda module, inputs, output: ran.append(module))
    values = usual.network.train().get_submodule("features")(images)
    assert ran == list(usual.network.features)  # type: ignore[arg-type]
    assert not usual.compiled
    assert torch.allclose(values, task.network.train().get_submodule("features")(images), atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_usual_loop_and_ours_see_the_same_images(channels: int) -> None:
    like = TinyDataModule()
    like.in_channels = channels
    noise = Noise(like, batches=2)
    noise.setup("fit")
    batch = noise.on_after_batch_transfer(noise.train_dataloader().gather(torch.arange(5)), 0)
    usual = [PerImage(noise)[index] for index in range(5)]
    assert torch.allclose(torch.stack([image for image, _, _ in usual]), batch.images, atol=1e-6)
    assert [(label, row) for _, label, row in usual] == list(zip(batch.labels, batch.rows, strict=True))


def test_noise_serves_as_many_batches_as_requested_and_loads_nothing() -> None:
    class Unloadable(TinyDataModule):
        def load(self, split: Any) -> None:
            raise AssertionError("loaded")

    noise = Noise(Unloadable(batch_size=100, eval_batch_size=400), batches=20, val_images=700)
    noise.setup("fit")
    assert [len(batch.rows) for batch in noise.train_dataloader()] == [100] * 20
    validation = noise.val_dataloader()
    assert isinstance(validation, BatchLoader)
    assert [len(batch.rows) for batch in validation] == [400, 300]


def test_speedups_compare_the_loops_round_by_round() -> None:
    slow, fast = (Loop("", lambda watch: 0, seconds=seconds) for seconds in ([4.0, 9.0], [2.0, 3.0]))
    assert fast.speedups(slow) == [2, 3]
    fast.processes = 2  # a step has twice the images
    assert fast.speedups(slow) == [4, 6]
