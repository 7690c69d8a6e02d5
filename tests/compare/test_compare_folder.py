"""A study's folder: its name, its lock, and what is kept or removed in it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from compare_example import example_run

from kd_lightning.compare.row_config import RowConfig
from kd_lightning.compare.run_key import weights_hash
from kd_lightning.compare.store import claimed, classes_file, finished_run, weights_file, write_run
from kd_lightning.compare.worker import clear
from kd_lightning.errors import UserError


def test_a_rows_logs_lie_in_the_studys_folder_for_any_name() -> None:
    for name in ("..", ".", "/", "../..", "a/../../b", "\\..", " ", "C:\\x", "~", "é [b]"):
        folder = RowConfig("student.yaml", name).folder
        assert Path(folder).parts == (folder,)
        assert not folder.startswith(".")


def test_a_name_that_no_folder_can_have_is_refused() -> None:
    with pytest.raises(UserError, match="500 characters in all"):
        RowConfig("student.yaml", 500 * "x")


def test_files_of_an_earlier_run_are_removed_and_none_outside_of_the_study(tmp_path: Path) -> None:
    elsewhere, logs = tmp_path / "elsewhere", tmp_path / "study" / "logs"
    for folder in (elsewhere / "seed_0", logs / "row" / "seed_0", tmp_path / "study" / "seed_0"):
        folder.mkdir(parents=True)
        (folder / "file").touch()
    (logs / "link").symlink_to(elsewhere)
    (logs / "row" / "seed_1").symlink_to(elsewhere)
    for outside in (logs / "link" / "seed_0", logs / "row" / "seed_1", logs / ".." / "seed_0"):
        with pytest.raises(UserError, match="leads out of"):
            clear(outside)
    assert len(list(tmp_path.rglob("file"))) == 3
    clear(logs / "row" / "seed_0")
    assert list((logs / "row" / "seed_0").iterdir()) == []


def test_one_compare_is_at_work_in_a_folder_at_a_time(tmp_path: Path) -> None:
    with claimed(tmp_path / "out"):
        with pytest.raises(UserError, match="another compare is at work in"), claimed(tmp_path / "out"):
            pass
        with claimed(tmp_path / "other"):
            pass
    with claimed(tmp_path / "out"):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"), claimed(tmp_path / "file"):
        pass


def _with(**values: object) -> Callable[[Path], None]:
    def damage(result: Path) -> None:
        result.write_text(json.dumps({**json.loads(result.read_text()), **values}))

    return damage


def _half(name: Callable[[Path], Path]) -> Callable[[Path], None]:
    def damage(result: Path) -> None:
        name(result).write_bytes(name(result).read_bytes()[:300])

    return damage


DAMAGES: dict[str, Callable[[Path], None]] = {
    "half of the results": _half(lambda result: result),
    "half of the classes": _half(classes_file),
    "half of the weights": _half(weights_file),
    "weights of another run": lambda result: torch.save({"weight": torch.ones(3)}, weights_file(result)),
    "no weights": lambda result: weights_file(result).unlink(),
    "too many parameters": _with(parameters=10**30),
    "seconds that are not a number": _with(training_seconds=float("nan")),
    "other counts": _with(confusion=[[1000, 0], [0, 0]]),
    "agreement in words": _with(teacher_agreement=[1]),
    "a short curve": _with(
        curves={"epochs": [1, 2], **{f"{x}_{y}": [0.1] for x in ("train", "val") for y in ("loss", "accuracy")}}
    ),
    "code": lambda result: np.save(classes_file(result), np.array([{}], dtype=object), allow_pickle=True),
    "classes of another run": lambda result: np.save(classes_file(result), np.ones((2, 1000), dtype=np.int64)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_run_does_not_count_as_finished(damage: str, tmp_path: Path) -> None:
    result = tmp_path / "run.json"
    torch.save({"weight": torch.zeros(3)}, weights_file(result))
    write_run(replace(example_run(0, 0.5), weights=weights_hash(weights_file(result))), result)
    assert finished_run(result) is not None
    DAMAGES[damage](result)
    assert finished_run(result) is None
