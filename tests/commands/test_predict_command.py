import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from difficult_images import DifficultImages, write_difficult_images
from PIL import Image

from kd_lightning.commands.predict import main
from kd_lightning.data.normalize import IMAGENET
from kd_lightning.errors import UserError
from kd_lightning.export.onnx import export_onnx
from kd_lightning.inference.images import FULL_RANGE
from kd_lightning.inference.model_info import ModelInfo
from kd_lightning.inference.onnx_predictor import OnnxPredictor
from kd_lightning.networks import LightNN
from kd_lightning.networks.weights import save_weights
from kd_lightning.prediction.sheet import MAX_IMAGES, Tile, draw_sheet
from kd_lightning.prediction.stream import Prediction

CLASSES = ("ant", "bee", "wasp, hornet", "fly")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network as ``light.pth`` and ``light.onnx``, and eight images in ``images``."""
    folder = tmp_path_factory.mktemp("work")
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(3)
        network = LightNN(num_classes=4, image_size=16).eval()
    network.state_dict()["classifier.3.weight"].mul_(20)  # probabilities that differ
    info = ModelInfo(network.class_path, network.arguments, CLASSES, *IMAGENET, 16, pixel_range=FULL_RANGE)
    save_weights(folder / "light.pth", network, info)
    export_onnx(network, info, folder / "light.onnx")
    random = np.random.default_rng(0)
    (folder / "images").mkdir()
    for number in range(8):
        pixels = random.integers(0, 256, (1 + number, 3, 3), np.uint8)
        Image.fromarray(pixels).resize((24, 20), Image.Resampling.BICUBIC).save(folder / "images" / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def difficult(tmp_path_factory: pytest.TempPathFactory) -> DifficultImages:
    return write_difficult_images(tmp_path_factory.mktemp("difficult") / "images")


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder, as the working directory."""
    monkeypatch.chdir(folder)
    return folder


def _expected(path: str) -> list[float]:
    predictor = OnnxPredictor("light.onnx")
    return predictor.probabilities(predictor.read(Path(path))[None])[0].tolist()  # type: ignore[no-any-return]


@pytest.mark.usefixtures("here")
def test_the_table_has_a_line_for_each_image(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "images", "--model", "light.onnx"]) == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split() == ["image", "label", "probability", "runner-up"]
    for number, line in enumerate(lines):
        probabilities = _expected(f"images/{number}.png")
        first, second = np.argsort(probabilities)[:-3:-1]
        assert line.startswith(f"images/{number}.png  {CLASSES[first]} ")
        assert f" {100 * probabilities[first]:.1f} %  {CLASSES[second]} " in line
        assert line.endswith(f" {100 * probabilities[second]:.1f} %")
        assert line.index("%") == heading.index("probability") + len("probability") - 1
    assert len(lines) == 8


@pytest.mark.usefixtures("here")
def test_files_and_folders_are_taken_in_the_order_named_with_as_many_classes_as_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert (
        main(["predict", "images/5.png", "--model", "light.onnx", "images", "images/2.png", "--batch_size", "3"]) == 0
    )
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]]
    assert names == [f"images/{number}.png" for number in (5, *range(8), 2)]
    for top, shown in ((1, 1), (9, 4)):
        main(["predict", "images/0.png", "--model", "light.onnx", "--top", str(top)])
        assert capsys.readouterr().out.splitlines()[1].count("%") == shown


@pytest.mark.usefixtures("here")
def test_below_the_threshold_the_table_shows_not_sure(capsys: pytest.CaptureFixture[str]) -> None:
    highest = [max(_expected(f"images/{number}.png")) for number in range(8)]
    threshold = (min(highest) + max(highest)) / 2
    main(["predict", "images", "--model", "light.onnx", "--threshold", str(threshold), "--output", "sure.jsonl"])
    lines = capsys.readouterr().out.splitlines()[1:]
    assert ["not sure (" in line for line in lines] == [value < threshold for value in highest]
    records = [json.loads(line) for line in Path("sure.jsonl").read_text().splitlines()]
    assert [record["sure"] for record in records] == [value >= threshold for value in highest]


@pytest.mark.usefixtures("here")
def test_json_json_lines_and_csv_agree() -> None:
    for name in ("out.json", "out.jsonl", "new/out.csv"):
        assert main(["predict", "images", "--model", "light.onnx", "--output", name, "--top", "3"]) == 0
    records = json.loads(Path("out.json").read_text())
    assert records == [json.loads(line) for line in Path("out.jsonl").read_text().splitlines()]
    with Path("new/out.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for number, (record, row) in enumerate(zip(records, rows, strict=True)):
        assert record["image"] == row["image"] == f"images/{number}.png"
        np.testing.assert_allclose(record["probabilities"], _expected(row["image"]), atol=1e-6)
        assert [float(row[f"p({name})"]) for name in CLASSES] == record["probabilities"]
        best = CLASSES[int(np.argmax(record["probabilities"]))]
        assert record["predicted_class"] == row["predicted_class"] == best
        assert record["probability"] == float(row["probability"]) == max(record["probabilities"])
        assert list(record["top"].values()) == sorted(record["probabilities"], reverse=True)[:3]
        assert (record["sure"], row["sure"]) == (True, "true")


@pytest.mark.usefixtures("here")
def test_names_of_files_are_exact_in_json_and_harmless_in_csv_and_in_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["=cmd|x.png", "@SUM(1).png", "a\nb.png", "\x1b[31mred.png", os.fsdecode(b"caf\xe9.png")]
    model, image = str(Path("light.onnx").absolute()), Path("images/3.png").read_bytes()
    monkeypatch.chdir(tmp_path)
    for name in names:
        Path(name).write_bytes(image)
    Path("\x1b[32m.png").write_bytes(b"")
    for output in ("out.json", "out.csv"):
        command = ["predict", *names, "\x1b[32m.png", "--model", model, "--output", output, "--sheet", "sheet.png"]
        assert main(command) == 1
    assert [record["image"] for record in json.loads(Path("out.json").read_text())] == names
    with Path("out.csv").open(newline="", encoding="utf-8") as file:
        cells = [row["image"] for row in csv.DictReader(file)]
    assert cells == ["'=cmd|x.png", "'@SUM(1).png", r"a\nb.png", r"\x1b[31mred.png", r"caf\udce9.png"]
    printed = capsys.readouterr()
    lines = printed.out.splitlines()
    assert all(line.isprintable() for line in (*lines, *printed.err.splitlines()))
    assert lines[5].startswith(r"caf\udce9.png  ")


@pytest.mark.parametrize("model", ["light.onnx", "light.pth"])
def test_broken_images_are_named_and_the_others_predicted(
    model: str, here: Path, difficult: DifficultImages, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, output = difficult.good[0].parent, tmp_path / "out.json"
    assert main(["predict", str(images), "--model", model, "--output", str(output), "--batch_size", "4"]) == 1
    printed = capsys.readouterr()
    *named, count = printed.err.splitlines()
    for line, path in zip(named, difficult.broken, strict=True):
        assert line.startswith(f"cannot read the image {path}: ")
    assert count == f"{len(difficult.broken)} of {len(difficult.broken + difficult.good)} images could not be read."
    records = {record["image"]: record for record in json.loads(output.read_text())}
    assert sorted(records) == sorted(path.as_posix() for path in difficult.good)
    for path, record in records.items():
        np.testing.assert_allclose(record["probabilities"], _expected(path), atol=1e-5)
        assert record["predicted_class"] == CLASSES[int(np.argmax(_expected(path)))]


@pytest.mark.parametrize("model", ["light.onnx", "light.pth"])
def test_images_beyond_the_range_of_the_training_images_and_files_left_out_are_reported(
    model: str, here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"a.tif": 65535, "b.tif": 70_000, "c.tif": -1000}.items():
        Image.fromarray(np.full((16, 16), value, np.int32)).save(tmp_path / name)
    (tmp_path / "d.heic").write_bytes(b"\0")
    assert main(["predict", str(tmp_path), "--model", model]) == 0
    left_out, clipped = capsys.readouterr().err.splitlines()
    assert left_out.startswith(f"1 file in {tmp_path} is left out: 1 .heic; ")
    assert clipped.startswith(f"{tmp_path}/b.tif (and 1 other) has values outside of the range of the training images")


def test_only_broken_images_make_an_empty_list(here: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_text("no image")
    command = ["predict", str(tmp_path / "broken.png"), "--model", "light.onnx", "--sheet", str(tmp_path / "sheet.png")]
    for name, content in (("out.json", "[]\n"), ("out.jsonl", "")):
        assert main([*command, "--output", str(tmp_path / name)]) == 1
        assert (tmp_path / name).read_text() == content


def test_the_onnx_path_loads_neither_torch_nor_lightning_nor_rich(folder: Path, tmp_path: Path) -> None:
    program = """
import contextlib
import sys
from kd_lightning.cli import main
with contextlib.suppress(SystemExit):
    main(["predict", "--help"])
print([name for name in ("numpy", "PIL", "onnxruntime") if name in sys.modules])
status = main(["predict", *sys.argv[1:]])
heavy = ("torch", "torchvision", "lightning", "jsonargparse", "rich", "onnx", "scipy", "matplotlib", "yaml")
print(status, [name for name in heavy if name in sys.modules])
"""
    model, output, sheet = folder / "light.onnx", tmp_path / "out.json", tmp_path / "sheet.png"
    options = ["--model", str(model), "--output", str(output), "--sheet", str(sheet)]
    command = [sys.executable, "-c", program, str(folder / "images"), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "--threshold P" in done.stdout
    assert "\n[]\n" in done.stdout  # the help needs not even NumPy
    assert done.stdout.splitlines()[-1] == "0 []"
    assert done.stderr == ""
    assert output.is_file()
    assert sheet.is_file()


def test_a_reader_that_stops_ends_the_command_quietly(folder: Path, tmp_path: Path) -> None:
    images = [str(folder / "images")] * 200
    command = [sys.executable, "-m", "kd_lightning", "predict", *images, "--model", str(folder / "light.onnx")]
    output = ["--output", str(tmp_path / "unread.json")]
    pipe = subprocess.PIPE
    with subprocess.Popen([*command, *output], stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 141
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("images", r"the following arguments are required: --model; `.*predict --help` lists the options\."),
        ("images --model light.onnx --top 0", r"argument --top: '0' is not a whole number of 1 or more; "),
        ("images --model light.onnx --threshold 60", r"argument --threshold: '60' is not a probability from 0 to 1; "),
        ("images --model light.onnx --output a.txt", r"--output: the file a\.txt must end in \.json, \.jsonl, \.csv; "),
        ("empty --model light.onnx", r"the folder empty holds no images; \.png, .* files count\."),
        ("images nowhere --model light.onnx", r"there is no image or folder nowhere; give the path of one\."),
        ("images --model none.onnx", r"there is no file none\.onnx"),
        ("images --model none.pth", r"no model file none\.pth"),
        ("images --model light.onnx --output light.onnx/out.csv", r"cannot write light\.onnx/out\.csv: "),
    ],
)
def test_a_mistake_ends_in_one_clear_sentence(args: str, message: str) -> None:
    Path("empty").mkdir(exist_ok=True)
    with pytest.raises(UserError, match=message) as error:
        main(["predict", *args.split()])
    assert "\n" not in str(error.value)


@pytest.mark.usefixtures("here")
def test_the_sheet_shows_the_images_with_bars_as_long_as_their_probabilities(tmp_path: Path) -> None:
    red = Image.new("RGB", (128, 128), "red")
    tiles = [
        Tile(red, Prediction("a.png", np.array(values, np.float32), ("a", "b")))
        for values in ([0.75, 0.25], [0.5, 0.5])
    ]
    pixels = np.asarray(draw_sheet(tiles, "net", threshold=0.6)).astype(int)
    assert (pixels == (255, 0, 0)).all(axis=2).sum() == 2 * 128 * 128
    assert (pixels == (9, 105, 218)).all(axis=2).sum() == 4 * 96  # sure
    assert (pixels == (212, 167, 44)).all(axis=2).sum() == 4 * 64  # not sure


def test_a_sheet_of_many_images_is_bounded_and_says_so(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["predict", "images", "--model", "light.onnx", "--sheet", str(tmp_path / "few.png")])
    assert capsys.readouterr().err == ""
    for number in range(MAX_IMAGES + 30):
        (tmp_path / f"{number:03}.png").symlink_to(here / "images" / "1.png")
    main(["predict", str(tmp_path), "--model", "light.onnx", "--sheet", str(tmp_path / "many.png")])
    assert capsys.readouterr().err == f"{tmp_path}/many.png shows 120 of 151 images, evenly spaced.\n"
    with Image.open(tmp_path / "few.png") as few, Image.open(tmp_path / "many.png") as many:
        assert few.width < many.width < 1800
        assert few.height < many.height < 2200
