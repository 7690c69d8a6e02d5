from pathlib import Path

import pytest
import yaml
from PIL import Image
from tiny import TinyDataModule
from weights_example import info_of

from kd_lightning.cli import main
from kd_lightning.data.normalize import channel_statistics
from kd_lightning.inference.onnx_predictor import OnnxPredictor
from kd_lightning.networks import LightNN
from kd_lightning.networks.weights import save_weights

TINY = ["--data=tiny.TinyDataModule", "--data.count=80"]


def test_stats_prints_the_exact_statistics_as_text_and_as_a_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", *TINY]) == 0
    output = capsys.readouterr().out
    exact = channel_statistics(TinyDataModule(count=80).split("train").images)
    pasted = yaml.safe_load(output[output.index("data:") :])["data"]["init_args"]["normalize"]
    assert pasted["mean"] == [round(value, 6) for value in exact.mean]
    assert pasted["std"] == [round(value, 6) for value in exact.std]
    assert f"mean  {exact.mean[0]:.6f}" in output


def test_data_counts_the_images_of_each_class_and_draws_a_sheet(
    temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", *TINY, "--data.augment=[HorizontalFlip]", "--output=sheets/tiny.png"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "shade 0                         18        20         2" in lines
    assert "all                             72        80         8" in lines
    assert "augmentation: HorizontalFlip" in lines
    with Image.open(temp_folder / "sheets" / "tiny.png") as sheet:
        assert sheet.width > sheet.height > 100


def save_model(path: Path, image_size: int = 8) -> None:
    network = LightNN(num_classes=4, image_size=image_size)
    save_weights(path, network, info_of(network))


def test_export_writes_verified_files_beside_the_model_or_where_it_is_told(
    temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(temp_folder / "net.pth")
    assert main(["export", "--model=net.pth", "--output=out", "--preprocess=inside"]) == 0
    assert sorted(path.name for path in Path("out").iterdir()) == ["net.onnx", "net_dynamic.onnx"]
    assert OnnxPredictor("out/net.onnx").inside
    assert "net_dynamic.onnx" in capsys.readouterr().out


def test_export_refuses_data_of_other_classes_and_static_without_any(
    temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(temp_folder / "net.pth")
    assert main(["export", "--model=net.pth", *TINY]) == 2
    assert "a class 0 that is called 'kind 0' (x), but the data has 'shade 0' there" in capsys.readouterr().err
    assert main(["export", "--model=net.pth", "--variants=[static]"]) == 2
    assert "training images to calibrate" in capsys.readouterr().err
    assert list(temp_folder.iterdir()) == [temp_folder / "net.pth"]
