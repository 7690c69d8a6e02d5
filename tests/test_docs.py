"""README.md and docs/: their examples run, and their lists are complete."""

import importlib
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import write_docs
from PIL import Image

from kd_lightning.cli import main
from kd_lightning.commands.list import NAMES
from kd_lightning.networks import DeepNN

ROOT = Path(__file__).parents[1]
PAGES = {"README.md": ("my_networks",), "docs/extend.md": ("my_losses", "my_networks", "my_tasks")}
OWN = PAGES["docs/extend.md"]
TINY = "--data=tiny.TinyDataModule --trainer.fast_dev_run=true --trainer.accelerator=cpu"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


def write_files(page: str) -> None:
    """Write the blocks of a page that begin with a file's name."""
    for block in (*blocks(page, "python"), *blocks(page, "yaml")):
        if named := re.match(r"# (\w+\.(?:py|yaml))\n", block):
            Path(named[1]).write_text(block)


@pytest.fixture
def own_files(temp_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A working directory that own modules are imported from; a smoke test takes an untrained teacher."""
    monkeypatch.syspath_prepend(str(temp_folder))
    importlib.invalidate_caches()
    yield
    for name in OWN:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("page", PAGES)
def test_the_files_that_a_page_adds_run_by_its_commands(page: str, own_files: None) -> None:
    write_files(page)
    own = [name for name in OWN if Path(f"{name}.py").exists()]
    assert tuple(own) == PAGES[page]
    lines = [line for block in blocks(page, "sh") for line in block.replace("\\\n", "").splitlines() if " fit " in line]
    commands = [line for line in lines if any(name in line for name in ("mine.yaml", "my_networks", "my_tasks"))]
    assert len(commands) >= len(own)
    for command in commands:
        words = shlex.split(command, comments=True)
        assert main([*words[3:], *TINY.split()]) == 0, command


def test_the_data_source_of_the_page_on_extending_is_described_and_trained_on(
    own_files: None, capsys: pytest.CaptureFixture[str]
) -> None:
    write_files("docs/extend.md")
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    for split in ("train", "test"):
        np.savez(f"{split}.npz", images=images, labels=np.arange(40) % 2)
    for line in blocks("docs/extend.md", "sh")[-1].splitlines():
        smoke = TINY.split()[1:] if " fit " in line else []
        assert main([*shlex.split(line)[3:], *smoke]) == 0, line
    assert "Arrays: 2 classes of 8x8 images, 3 channel(s)" in capsys.readouterr().out


def test_the_readmes_loop_over_images_runs(temp_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("EvalDataset").mkdir()
    Image.new("RGB", (40, 30)).save("EvalDataset/one.png")
    torch.save(DeepNN().state_dict(), "NNDeep.pth")
    (loop,) = (block for block in blocks("README.md", "python") if "predict_image" in block)
    names: dict[str, list[dict[str, object]]] = {}
    exec(loop, names)  # what a reader would run
    assert [result["image"] for result in names["results"]] == ["one.png"]


@pytest.mark.parametrize("page", write_docs.PAGES, ids=lambda page: page.name)
def test_a_page_lists_what_the_docstrings_describe(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text == write_docs.written(text), f"{page.name} is old; `python tests/write_docs.py` writes its tables again"


def test_the_pages_list_every_kind_once() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in write_docs.PAGES)
    assert sorted(re.findall(r"<!-- list (\w+) -->\n\n\|", text)) == sorted(NAMES)


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
def test_every_link_of_a_page_leads_to_a_file(page: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", (ROOT / page).read_text()):
        assert target.startswith("http") or ((ROOT / page).parent / target).is_file(), target


@pytest.mark.parametrize("block", [block for block in blocks("docs/distill.md", "yaml") if "Distill" in block])
def test_the_configs_of_the_page_on_distillation_train(block: str, own_files: None) -> None:
    write_files("docs/distill.md")
    Path("mine.yaml").write_text(block)
    assert main(["fit", "--config=mine.yaml", *TINY.split()]) == 0
