"""When two runs of a study are the same, and the counts and times beside them."""

import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tiny import TinyDataModule

from kd_lightning import sources
from kd_lightning.compare import run_key
from kd_lightning.compare.hyperparameters import hyperparameters
from kd_lightning.compare.measure import multiply_adds
from kd_lightning.compare.progress import Progress
from kd_lightning.networks import DeepNN, LightNN


def test_the_code_of_a_run_is_part_of_its_key_and_that_of_its_report_is_not() -> None:
    found = sources.reached(run_key.CODE, run_key.never_trains)[0]
    assert {"kd_lightning.losses", "kd_lightning.tasks.task", "kd_lightning.compare.measure"} <= found.keys()
    assert {"kd_lightning.data.loader", "kd_lightning.fast.step", "kd_lightning.training.cli"} <= found.keys()
    others = ("compare.page", "export.speed", "prediction", "commands.data", "callbacks.export_onnx", "wording")
    assert not found.keys() & {f"kd_lightning.{name}" for name in others}


def test_a_changed_module_of_ones_own_repeats_the_runs_that_it_is_imported_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in {
        "own_net.py": "def build():\n    from own_parts import wide\nclass Net:\n    class Inner: ...",
        "own_parts/__init__.py": "from . import narrow",
        "own_parts/wide.py": "import own_deep as deep",
        "own_parts/narrow.py": "",
        "own_parts/unused.py": "",
        "own_deep.py": "SCALE = 1",
        "own_other.py": "",
        "dynamic/own_plugins.py": "from importlib import import_module",
        "dynamic/plugin.py": "",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "dynamic")
    monkeypatch.setattr(run_key, "CODE", ())  # of this package
    monkeypatch.setitem(sys.modules, "own_net", import_module("own_net"))
    config: dict[str, Any] = {"data": {}, "model": {"class_path": "own_net.Net.Inner"}, "trainer": {"callbacks": None}}

    def changes(file: str) -> bool:
        before = run_key.code_version(config)
        with (tmp_path / file).open("a") as code:
            code.write("\n# changed")
        return run_key.code_version(config) != before

    for file in ("own_net.py", "own_parts/__init__.py", "own_parts/wide.py", "own_parts/narrow.py", "own_deep.py"):
        assert changes(file), file
    for file in ("own_parts/unused.py", "own_other.py", "dynamic/plugin.py"):
        assert not changes(file), file
    (tmp_path / "own_deep.py").write_text("import own_plugins")  # which may import whatever lies beside it
    assert changes("dynamic/plugin.py")
    assert not changes("own_other.py")
    before = run_key.code_version(config)
    (tmp_path / "own_deep.py").write_text("import own_plugins, pygments")
    with_library = run_key.code_version(config)
    monkeypatch.setattr(sources, "_version", lambda library: "another")
    assert len({before, with_library, run_key.code_version(config)}) == 3


def test_the_key_has_all_that_numbers_depend_on_and_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config: dict[str, Any] = {
        "data": {"class_path": "tiny.TinyDataModule", "init_args": {"root": "a", "batch_size": 2}},
        "model": {"class_path": "kd_lightning.tasks.Classifier", "init_args": {}},
        "trainer": {"max_epochs": 1, "callbacks": None, "logger": None, "enable_progress_bar": True},
    }

    def key(seed: int = 0, threads: int = 1, data: str = "x", code: str = "1", **changed: Any) -> str:
        parts = {name: {**part, **changed.get(name, {})} for name, part in config.items()}
        return run_key.run_key(parts, seed, data={"train": data}, teacher=None, threads=threads, code=code)

    assert key() == key(trainer={"enable_progress_bar": False, "logger": True})
    elsewhere = {"init_args": {"root": "b", "batch_size": 2}}
    moved = {**config, "data": {**config["data"], **elsewhere}}
    assert run_key.run_key(moved, 0, data={"train": "x"}, teacher=None, threads=1, code="1") == key()
    others = [key(seed=1), key(threads=2), key(data="y"), key(trainer={"max_epochs": 2}), key(model={"init_args": 1})]
    assert len({key(), key(code="2"), *others}) == 7
    values = [{"init_args": {"f": f"<function <lambda> at 0x7f{address}>"}} for address in ("01ab", "12cd")]
    assert key(model=values[0]) == key(model=values[1]) != key()
    monkeypatch.chdir(tmp_path)
    named = {"init_args": {"weights": "own.pth"}}
    before = key(model=named)
    Path("own.pth").write_bytes(b"weights")
    first = key(model=named)
    Path("own.pth").write_bytes(b"others.")
    assert len({before, first, key(model=named)}) == 3
    without = key()
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    assert key() != without


def test_data_is_the_same_if_and_only_if_its_images_labels_and_split_are() -> None:
    prints = run_key.fingerprint(TinyDataModule())
    assert prints == run_key.fingerprint(TinyDataModule(batch_size=8))
    fewer = run_key.fingerprint(TinyDataModule(val_size=0))
    assert fewer["test"] == prints["test"]
    assert fewer["train"] != prints["train"]
    brighter = TinyDataModule()
    brighter.split("test").images[5, 3, 2, 1] += 1
    assert run_key.fingerprint(brighter) == {**prints, "test": run_key.fingerprint(brighter)["test"]} != prints


def test_class_names_that_read_alike_when_they_are_joined_are_different_data(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for names in (("a | b", "c"), ("a", "b | c")):
        monkeypatch.setattr(TinyDataModule, "class_names", names)
        found.append(run_key.fingerprint(TinyDataModule(classes=2))["classes"])
    assert found[0] != found[1]


def test_tensorboard_gets_only_values_that_it_can_store() -> None:
    values = {"big": 10**400, "half": "\ud800", "lr": 0.1, "none": None, "on": True}
    assert hyperparameters({"a": values, "b": {}})["a"] == {
        "big": str(10**400),
        "half": "\\ud800",
        "lr": 0.1,
        "on": True,
    }


def test_multiply_adds_are_those_of_the_design() -> None:
    assert multiply_adds(LightNN().eval()) == pytest.approx(1.30e6, rel=0.005)
    assert multiply_adds(DeepNN().eval()) == pytest.approx(94.2e6, rel=0.001)


def test_time_left_is_estimated_from_the_runs_of_each_row(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    expected: dict[str, float] = {}
    progress = Progress(total=6, jobs=2, console=Console(quiet=True), expected=expected)
    assert progress.left(["teacher"]) == "time left unknown until the first run ends"
    expected["teacher"] = 40.0
    assert progress.left(["teacher", "teacher"]) == "about 40 s left"
    progress.started("teacher", 0)
    now[0] = 100.0
    progress.ended("teacher", 0, "done", [])
    progress.ended("student", 0, "reused", [])
    expected["student"] = 20.0
    progress.started("teacher", 1)
    now[0] = 130.0  # 70 of its 100 seconds are left, and others take 60 more than expected, as it did
    assert progress.left(["student", "student", "teacher", "cosine"]) == "about 4 min left"  # (70 + 160 + 100 + 90) / 2
