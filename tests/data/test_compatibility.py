"""A file's metadata are compared with the data, wherever the two meet."""

import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TinyDataModule
from torch import nn
from training_example import NO_EXPORT, TINY, fit

from kd_lightning.cli import main
from kd_lightning.data.compatibility import check_channels_and_classes, check_data, check_images
from kd_lightning.data.normalize import IMAGENET, Normalization
from kd_lightning.errors import UserError
from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.networks import DeepNN

NAMES = tuple(f"shade {i}" for i in range(4))
INFO = ModelInfo("LightNN", {}, NAMES, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 8, "Tiny")
SAME = Normalization(INFO.mean, INFO.std)


class Renamed(TinyDataModule):
    """The same images in class folders whose names sort differently."""

    @property
    def class_names(self) -> tuple[str, ...]:
        return super().class_names[::-1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mean": (0.1,), "std": (0.4,)}, "images of 1 channel(s) (Tiny), but the data has 3; give the data that"),
        ({"image_size": 9}, "images of 9 pixels (Tiny), but the data has 8"),
        (
            {"class_names": ("shade 0", "x", "y", "z")},
            "a class 1 that is called 'x' (Tiny), but the data has 'shade 1'",
        ),
        ({"class_names": NAMES[::-1]}, "class 0 that is called 'shade 3' (Tiny), but the data has the same classes in"),
        ({"mean": IMAGENET[0], "std": IMAGENET[1]}, "; add --data.normalize imagenet, or give another file."),
        ({"mean": (0.1, 0.2, 0.31)}, "--data.normalize '{mean: [0.1, 0.2, 0.31], std: [0.4, 0.5, 0.6]}', or give"),
    ],
)
def test_each_difference_is_named_with_both_values_and_its_fix(change: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=re.escape(words)):
        check_data("net.pth", replace(INFO, **change), TinyDataModule(normalize=SAME))


class Wide(TinyDataModule):
    """The same images, as if scaled from files of 12 bits."""

    pixel_range = (0.0, 4095.0)


def test_pixels_that_are_scaled_by_another_range_are_refused_with_the_option() -> None:
    info = replace(INFO, pixel_range=(0.0, 65535.0))
    words = "range [0, 65535] (Tiny), but the data has those of [0, 4095]; add --data.pixel_range '[0, 65535]', or"
    for check in (check_data, check_channels_and_classes):
        with pytest.raises(UserError, match=re.escape(words)):
            check("net.pth", info, Wide(normalize=SAME))
        check("net.pth", replace(info, pixel_range=(0.0, 4095.0)), Wide(normalize=SAME))
        check("net.pth", info, TinyDataModule(normalize=SAME))
        check("net.pth", INFO, Wide(normalize=SAME))


def test_the_same_data_pass_also_after_a_round_trip_through_float32_and_where_the_file_names_no_classes() -> None:
    data = TinyDataModule(normalize=SAME)
    rounded = tuple(torch.tensor(INFO.mean).tolist())
    assert rounded != INFO.mean
    check_data("net.pth", replace(INFO, mean=rounded), data)
    check_data("net.pth", replace(INFO, class_names=tuple(f"class {i}" for i in range(4))), data)
    check_images("net.pth", replace(INFO, mean=IMAGENET[0]), data)  # an export applies the file's own normalization


def test_a_checkpoint_is_never_run_on_other_data_and_the_message_fixes_it(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--config=student.yaml", *TINY, f"--ckpt_path={trained}/checkpoints/last.ckpt"]
    for command in ("fit", "test"):
        assert main([command, *arguments, "--data=test_compatibility.Renamed"]) == 2
        assert "the same classes in another order, 'shade 3' there" in capsys.readouterr().err
    assert main(["test", *arguments, "--data.normalize=imagenet"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    fix = shlex.split(error[error.index("--data.normalize") : error.index(", or give another file")])
    assert main(["test", *arguments, *fix]) == 0


def test_a_checkpoint_without_metadata_of_its_data_is_refused(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    del content["model_info"]
    torch.save(content, "bare.ckpt")
    assert main(["test", "--config=student.yaml", *TINY, "--ckpt_path=bare.ckpt"]) == 2
    assert "does not say on which data it was trained" in capsys.readouterr().err


def test_a_teacher_sees_images_as_its_file_says_and_outputs_the_datas_order_of_classes(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["fit", "--config=cosine.yaml", *TINY, NO_EXPORT, "--model.teacher.network=LightNN"]
    arguments += [f"--model.teacher.weights={trained}/NNLight.pth"]
    assert main([*arguments, "--data=test_compatibility.Renamed"]) == 0
    assert "Teacher: has its classes put in the data's order." in capsys.readouterr().out
    assert main([*arguments, "--data.normalize=imagenet"]) == 0
    assert "Teacher: normalizes images as its file says." in capsys.readouterr().out


def test_a_bare_state_dict_is_a_teacher_that_sees_imagenets_normalization(
    temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher: nn.Module = DeepNN(num_classes=4, image_size=8)
    torch.save(teacher.state_dict(), "bare.pth")
    arguments = ["fit", "--config=cosine.yaml", *TINY, NO_EXPORT, "--model.teacher.weights=bare.pth"]
    assert main(arguments) == 0
    assert (
        "Teacher: normalizes images by mean 0.485, 0.456, 0.406 and std 0.229, 0.224, 0.225, which"
        in capsys.readouterr().out
    )
    assert main([*arguments, "--data.normalize=imagenet"]) == 0
    assert "normalizes images" not in capsys.readouterr().out


@pytest.fixture
def trained(temp_folder: Path) -> Path:
    """The folder of a student's run."""
    fit("student.yaml", NO_EXPORT)
    return Path("lightning_logs/student/version_0")
