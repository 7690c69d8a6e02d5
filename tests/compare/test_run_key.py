"""When two runs of a study are the same, and the counts and times beside them."""

import os
import sys
import time
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from tiny import TinyDataModule

from kd_lightning.compare import run_key
from kd_lightning.compare.hyperparameters import hyperparameters
from kd_lightning.compare.measure import multiply_adds
from kd_lightning.compare.progress import Progress
from kd_lightning.digest import digest
from kd_lightning.networks import DeepNN, LightNN


def test_a_changed_module_of_ones_own_repeats_the_runs_that_use_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in {
        "own_net.py": "import own_parts.wide\nclass Net:\n    class Inner: ...",
        "own_parts/__init__.py": "",
        "own_parts/wide.py": "from own_deep import scale\nfrom own_sizes import WIDTH\nimport scipy",
        "own_deep.py": "def scale(): ...",
        "own_sizes.py": "WIDTH = 8",
        "own_loss.py": "class Loss: ...",
        "own_other.py": "",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    names = {"own_net", "own_parts", "own_parts.wide", "own_deep", "own_sizes", "own_loss", "own_other"}
    for name in names:
        import_module(name)
    kinds = {"net": "own_net.Net.Inner", "loss": "own_loss.Loss", "ours": "kd_lightning.tasks.Classifier"}
    configs = {
        row: {"data": {}, "model": {"class_path": kind}, "trainer": {"callbacks": None}} for row, kind in kinds.items()
    }

    def changed(file: str) -> list[str]:
        before = run_key.code_digests(configs, names - {"own_other"})
        with (tmp_path / file).open("a") as code:
            code.write("\n# changed")
        after = run_key.code_digests(configs, names - {"own_other"})
        return [row for row in configs if before[row] != after[row]]

    for file in ("own_net.py", "own_parts/__init__.py", "own_parts/wide.py", "own_deep.py"):
        assert changed(file) == ["net"], file
    assert changed("own_loss.py") == ["loss"]
    assert changed("own_sizes.py") == ["net", "loss"]  # of which only a number is taken: whose it is cannot be seen
    assert changed("own_other.py") == []  # imported before the rows were built
    before = run_key.code_digests(configs, names)
    monkeypatch.setattr(run_key, "library_version", lambda library: "another" if library == "scipy" else "1")
    scipy = run_key.code_digests(configs, names)
    assert all(scipy[row] != before[row] for row in configs)
    for name in names:
        del sys.modules[name]


def test_the_key_has_all_that_numbers_depend_on_and_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config: dict[str, Any] = {
        "data": {"class_path": "tiny.TinyDataModule", "init_args": {"root": "a", "batch_size": 2}},
        "model": {"class_path": "kd_lightning.tasks.Classifier", "init_args": {}},
        "trainer": {"max_epochs": 1, "callbacks": None, "logger": None, "enable_progress_bar": True},
    }

    def key(seed: int = 0, threads: int = 1, data: str = "x", code: str = "1", **changed: Any) -> str:
        parts = {name: {**part, **changed.get(name, {})} for name, part in config.items()}
        row = run_key.KeyOfRow(parts, data={"train": data}, learns=False, threads=threads, code=code)
        return row.of(seed, None)

    assert key() == key(trainer={"enable_progress_bar": False, "logger": True})
    elsewhere = {"init_args": {"root": "b", "batch_size": 2}}
    moved = {**config, "data": {**config["data"], **elsewhere}}
    assert run_key.KeyOfRow(moved, data={"train": "x"}, learns=False, threads=1, code="1").of(0, None) == key()
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
    device = [*run_key._devices(), 1, [os.environ.get(name) for name in run_key.SETTINGS]]
    whole = {"config": run_key.relevant(config, learns=False), "seed": 0, "data": {"train": "x"}, "teacher": None}
    text = yaml.safe_dump({**whole, "files": {}, "code": "1", "device": device})
    assert without == digest(text.encode(), size=16)  # studies on disk have these keys
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
    progress = Progress(total=6, jobs=2, console=Console(quiet=True))
    assert progress.left(Counter(teacher=1)) == "time left unknown until the first run ends"
    progress.expected = {"teacher": 40.0, "student": 80.0}
    assert progress.left(Counter(teacher=2)) == "about 40 s left"
    progress.started("teacher", 0)
    now[0] = 100.0
    progress.ended("teacher", 0, "done", Counter())
    progress.ended("student", 0, "reused", Counter())
    progress.started("teacher", 1)
    now[0] = 130.0  # 70 of its 100 seconds are left; a row without an estimate takes as long as the others do
    waiting = Counter(student=2, teacher=1, cosine=1)
    assert progress.left(waiting) == "about 4 min left"  # (70 + 160 + 100 + 90) / 2
