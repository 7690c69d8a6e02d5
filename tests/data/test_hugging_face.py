"""Data sets of the hub's format, written here as parquet and JSON files, where the package datasets is installed."""

import io
import json
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from kd_lightning.cli import main
from kd_lightning.data.hugging_face import HuggingFaceDataModule
from kd_lightning.errors import UserError

KINDS = ("ant", "bee")


@pytest.fixture(autouse=True)
def own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    if find_spec("datasets") is not None:  # it reads its variables when it is imported
        monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "tables")


def png(kind: int, number: int) -> bytes:
    """Return an image whose red is its kind and whose green is a unique number."""
    content = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), (kind, number, 2 * number % 256), np.uint8)).save(content, format="PNG")
    return content.getvalue()


def images(count: int, start: int = 0) -> list[Any]:
    return [{"bytes": png(number % 2, number), "path": f"{number}.png"} for number in range(start, start + count)]


def write(path: Path, rows: Sequence[Any], labels: Sequence[Any], *, label: str = "label") -> None:
    """Write a split as the hub has it: with its features, where the labels are numbers of kinds."""
    datasets = pytest.importorskip("datasets")
    path.parent.mkdir(parents=True, exist_ok=True)
    named = isinstance(labels[0], int) and label != "number"
    features = {"image": datasets.Image(), label: datasets.ClassLabel(names=list(KINDS)) if named else None}
    features[label] = features[label] or datasets.Value("string" if isinstance(labels[0], str) else "int64")
    table = datasets.Dataset.from_dict({"image": rows, label: labels}, features=datasets.Features(features))
    table.to_parquet(path)


def module(path: Path, **options: Any) -> HuggingFaceDataModule:
    return HuggingFaceDataModule(str(path), image_size=8, **options)


def seen(data: HuggingFaceDataModule, split: str) -> set[tuple[int, int]]:
    """Return label and number of a split's images, after checking that their red is the label."""
    found, rows = getattr(data, f"{split}_rows")()
    pixels = found.images[rows][:, 0, 0]
    assert pixels[:, 0].tolist() == found.labels[rows].tolist()
    return {(red, green) for red, green, _ in pixels.tolist()}


def test_splits_columns_and_classes_are_found(tmp_path: Path) -> None:
    for name, start, count in (("train", 0, 6), ("validation", 20, 2), ("test", 40, 4)):
        write(tmp_path / "photos" / f"{name}-00000-of-00001.parquet", images(count, start), [0, 1] * (count // 2))
    data = module(tmp_path / "photos")
    assert (data.class_names, data.name, data.has_val, data.hub_name) == (KINDS, "photos", True, "")
    assert seen(data, "train") == {(number % 2, number) for number in range(6)}
    assert seen(data, "val") == {(0, 20), (1, 21)}
    assert seen(data, "test") == {(number % 2, number) for number in range(40, 44)}


def test_without_a_test_split_a_stratified_part_becomes_it(tmp_path: Path) -> None:
    write(tmp_path / "train.parquet", images(40), [0, 1] * 20)
    data = module(tmp_path / "train.parquet")
    train, val, test = (seen(data, split) for split in ("train", "val", "test"))
    assert [len(part) for part in (train, val, test)] == [29, 3, 8]
    assert len(train | val | test) == 40
    assert seen(module(tmp_path / "train.parquet"), "test") == test


@pytest.mark.parametrize(
    ("labels", "names"),
    [(["b", "a"], ("a", "b")), ([10, 9], ("9", "10")), ([-1, 1], ("-1", "1"))],
    ids=["texts", "whole numbers", "a negative one"],
)
def test_values_that_are_not_named_are_classes_in_their_order(
    tmp_path: Path, labels: list[Any], names: tuple[str, ...]
) -> None:
    write(tmp_path / "d" / "train.parquet", images(20), labels * 10, label="number")
    data = module(tmp_path / "d", label_column="number")
    assert data.class_names == names
    found, rows = data.train_rows()
    expected = [names.index(str(labels[int(red)])) for red in found.images[rows][:, 0, 0, 0]]
    assert found.labels[rows].tolist() == expected


def test_a_table_may_name_image_files(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    rows = []
    for number in range(20):
        (tmp_path / f"{number}.png").write_bytes(png(number % 2, number))
        rows.append({"image": f"{number}.png", "label": KINDS[number % 2]})
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    data = module(tmp_path / "train.jsonl")
    assert seen(data, "train") | seen(data, "val") | seen(data, "test") == {
        (number % 2, number) for number in range(20)
    }


def test_rows_that_cannot_be_read_stop_the_run_or_are_left_out(tmp_path: Path) -> None:
    rows = images(20)
    rows[3], rows[4] = {"bytes": b"nonsense", "path": "x.png"}, None
    write(tmp_path / "d" / "train.parquet", rows, [0, 1] * 10)
    with pytest.raises(UserError, match=r"(?s)2 of 20 .* row 3 \(x\.png\): it is not .* row 4: there is no image"):
        module(tmp_path / "d", test_size=0.1).prepare_data()
    data = module(tmp_path / "d", on_broken="skip", val_size=0)
    with pytest.warns(match="2 of 20 images cannot be read"):
        assert len(seen(data, "train") | seen(data, "test")) == 18


def test_images_are_decoded_once_until_the_data_set_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "d" / "train.parquet", images(20), [0, 1] * 10)
    first = seen(module(tmp_path / "d"), "train")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kd_lightning.data.tables._read", lambda rows, row: pytest.fail("it is decoded again"))
        assert seen(module(tmp_path / "d"), "train") == first
    write(tmp_path / "d" / "train.parquet", images(20, 100), [0, 1] * 10)
    assert all(number >= 100 for _, number in seen(module(tmp_path / "d"), "train"))


def test_labels_that_are_kept_secret_are_not_tested_on(tmp_path: Path) -> None:
    write(tmp_path / "d" / "train.parquet", images(20), [0, 1] * 10)
    write(tmp_path / "d" / "test.parquet", images(4, 40), [-1] * 4)
    with pytest.warns(match="the images of the split test have no labels, so it is not used"):
        assert all(number < 20 for _, number in seen(module(tmp_path / "d"), "test"))
    write(tmp_path / "d" / "test.parquet", images(4, 40), [0, 1, -1, 1])
    with pytest.raises(UserError, match="1 image of 4 in the split test have no label"):
        module(tmp_path / "d").prepare_data()


def mistakes() -> list[Any]:
    return [
        (
            {"label_column": "kind"},
            r"no column 'kind'; choose one with --data\.label_column: .* image \(Image\), label",
        ),
        ({"image_column": "label"}, r"column label holds ClassLabel, not images"),
        ({"label_column": "image"}, r"column image holds Image, not classes"),
    ]


@pytest.mark.parametrize(("options", "message"), mistakes())
def test_a_wrong_column_is_one_sentence(tmp_path: Path, options: dict[str, str], message: str) -> None:
    write(tmp_path / "d" / "train.parquet", images(4), [0, 1] * 2)
    with pytest.raises(UserError, match=message):
        module(tmp_path / "d", **options).prepare_data()


@pytest.mark.parametrize("name", ["photos/", "a/b/c", "empty"])
def test_a_data_set_that_is_not_there_is_one_sentence(temp_folder: Path, name: str) -> None:
    pytest.importorskip("datasets")
    Path("empty").mkdir()
    with pytest.raises(UserError, match=rf"there is no folder or file {name}|the data set empty cannot be loaded \("):
        _ = HuggingFaceDataModule(name).class_names


def test_a_missing_package_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UserError, match=r"needs the package datasets; install it with `pip install datasets`\.$"):
        _ = HuggingFaceDataModule("photos").class_names


def test_a_network_is_trained_on_it(temp_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(Path("photos") / "train.parquet", images(40), [0, 1] * 20)
    options = ["--data=HuggingFaceDataModule", "--data.path=photos", "--data.image_size=8", "--files.onnx=null"]
    options += ["--model=Classifier", "--model.network=LightNN", "--trainer.max_epochs=1", "--trainer.accelerator=cpu"]
    assert main(["fit", *options, "--trainer.enable_progress_bar=false"]) == 0
    assert "  data      photos: 2 classes, 29 training, 3 validation, 8 test images\n" in capsys.readouterr().out
    assert torch.load(next(Path().rglob("weights.pth")))["model_info"]["class_names"] == list(KINDS)
