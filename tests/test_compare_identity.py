"""When two runs of a study are the same, and what is counted and told beside them."""

import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tiny import TinyDataModule

from kd_lightning.compare import identity
from kd_lightning.compare.measure import multiply_adds
from kd_lightning.compare.progress import Progress
from kd_lightning.networks import DeepNN, LightNN


def test_the_code_of_a_run_is_part_of_its_key_and_that_of_its_report_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "package"
    shutil.copytree(identity.PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(identity, "PACKAGE", package)

    def after(file: str) -> str:
        with (package / file).open("a") as code:
            code.write("# changed\n")
        return identity.code_version.__wrapped__(())

    found = [identity.code_version.__wrapped__(())]
    found += [after(file) for file in ("losses.py", "tasks/base.py", "compare/measure.py")]
    assert len(set(found)) == 4
    assert after("compare/page.py") == after("export/speed.py") == found[-1]
    assert identity.code_version.__wrapped__(("tiny.TinyDataModule",)) != found[-1]


def test_the_key_holds_all_that_numbers_depend_on_and_no_path() -> None:
    config: dict[str, Any] = {
        "data": {"class_path": "tiny.TinyDataModule", "init_args": {"root": "a", "batch_size": 2}},
        "model": {"class_path": "kd_lightning.tasks.Classifier", "init_args": {}},
        "trainer": {"max_epochs": 1, "callbacks": None, "logger": None, "enable_progress_bar": True},
    }

    def key(seed: int = 0, threads: int = 1, data: str = "x", **changed: Any) -> str:
        parts = {name: {**part, **changed.get(name, {})} for name, part in config.items()}
        return identity.run_key(parts, seed, data={"train": data}, teacher=None, threads=threads)

    assert key() == key(trainer={"enable_progress_bar": False, "logger": True})
    elsewhere = {"init_args": {"root": "b", "batch_size": 2}}
    moved = {**config, "data": {**config["data"], **elsewhere}}
    assert identity.run_key(moved, 0, data={"train": "x"}, teacher=None, threads=1) == key()
    others = [key(seed=1), key(threads=2), key(data="y"), key(trainer={"max_epochs": 2}), key(model={"init_args": 1})]
    assert len({key(), *others}) == 6
    values = [{"init_args": {"f": f"<function <lambda> at 0x7f{address}>"}} for address in ("01ab", "12cd")]
    assert key(model=values[0]) == key(model=values[1]) != key()


def test_data_is_the_same_if_and_only_if_its_images_labels_and_split_are() -> None:
    prints = identity.fingerprint(TinyDataModule())
    assert prints == identity.fingerprint(TinyDataModule(batch_size=8))
    fewer = identity.fingerprint(TinyDataModule(val_size=0))
    assert fewer["test"] == prints["test"]
    assert fewer["train"] != prints["train"]
    brighter = TinyDataModule()
    brighter.split("test").images[5, 3, 2, 1] += 1
    assert identity.fingerprint(brighter) == {**prints, "test": identity.fingerprint(brighter)["test"]} != prints


def test_multiply_adds_are_those_of_the_design() -> None:
    assert multiply_adds(LightNN().eval()) == pytest.approx(1.30e6, rel=0.005)
    assert multiply_adds(DeepNN().eval()) == pytest.approx(94.2e6, rel=0.001)


def test_time_left_is_judged_by_the_runs_of_each_row(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    progress = Progress(total=6, jobs=2, console=Console(quiet=True))
    assert progress.left(["teacher"]) == "the first run will tell how long it takes"
    progress.started("teacher", 0)
    now[0] = 100.0
    progress.ended("teacher", 0, "done", [])
    progress.ended("student", 0, "there already", [], 20.0)
    progress.started("teacher", 1)
    now[0] = 130.0  # 70 of its 100 seconds are left
    assert progress.left(["student", "student", "teacher", "cosine"]) == "about 2 min left"  # (70 + 40 + 100 + 60) / 2
