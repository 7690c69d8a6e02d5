"""README.md and docs/: their examples run, their lists are complete, and their links lead somewhere."""

import importlib
import io
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
import write_docs
from PIL import Image
from write_docs import PAGES, ROOT

from kd_lightning.cli import main
from kd_lightning.commands import data, export, stats
from kd_lightning.commands.list import NAMES
from kd_lightning.compare.study import read_request
from kd_lightning.networks import DeepNN
from kd_lightning.prediction import arguments
from kd_lightning.training.parser import Parser

OWN = ("my_losses", "my_networks", "my_tasks", "my_data")
SMOKE = ["--trainer.fast_dev_run=true", "--trainer.accelerator=cpu"]
TINY = ["--data=tiny.TinyDataModule", *SMOKE]
NAMED = re.compile(r"# (\w+\.(?:py|yaml))\n")
"""The first line of a block that is a file."""


class ParsedError(Exception):
    """Raised in the place of running a command whose options are right."""


def blocks(page: str, language: str) -> list[str]:
    """Return the blocks of a page in a language."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def files(page: str) -> dict[str, str]:
    """Return the files that a page adds, by name; a whole config without a name is ``mine.yaml``."""
    found = {}
    for block in (*blocks(page, "python"), *blocks(page, "yaml")):
        if named := NAMED.match(block):
            found[named[1]] = block
        elif block.startswith("model:"):
            found["mine.yaml"] = block
        elif "class CentredLogits" in block:
            found["my_losses.py"] = block
    return found


def commands(page: str) -> list[str]:
    """Return the commands of a page, without their comments."""
    lines = [line for block in blocks(page, "sh") for line in block.replace("\\\n", "").splitlines()]
    return [match[1] for line in lines if (match := re.search(r"(?:^|&& )kd-lightning (.*?)(?: +#|$)", line))]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


WITH_COMMANDS = [page for page in map(name, PAGES) if commands(page)]
CONFIGS = [
    (page, file)
    for page in map(name, PAGES)
    for file, text in files(page).items()
    if file.endswith(".yaml") and "weights: DEFAULT" not in text  # which downloads
]


@pytest.fixture
def own_files(temp_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A working directory that own modules are imported from, with what the pages of others add."""
    monkeypatch.syspath_prepend(str(temp_folder))
    for page in ("docs/methods.md", "docs/extend.md"):
        write_files(page)
    importlib.invalidate_caches()
    yield
    for module in OWN:
        sys.modules.pop(module, None)


def write_files(page: str) -> None:
    for file, text in files(page).items():
        Path(file).write_text(text)


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_the_commands_of_a_page_are_understood(page: str, own_files: None, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(page)
    Path("lightning_logs").mkdir()

    def only_parse(parser: Parser, args: list[str]) -> NoReturn:
        parser.parse_args(args[1:])
        raise ParsedError

    for module in (data, export, stats):
        monkeypatch.setattr(module, "parse", only_parse)
    for command in commands(page):
        words = shlex.split(command)
        with redirect_stdout(io.StringIO()):
            understand(words)


def understand(words: list[str]) -> None:
    """Run a command where that takes no data and no hours; elsewhere read its options."""
    if words[0] == "compare":
        request = read_request(words[1:])
        understand(["fit", "--config", request.study.baseline.config, *request.each_run])
    elif words[0] == "predict":
        arguments.parse(words[1:])
    elif words[0] in ("data", "export", "stats"):
        with pytest.raises(ParsedError):
            main(words)
    else:
        prints = words[0] == "list" or "--help" in words
        try:
            status = main(words if prints else [*words, "--print_config"])
        except SystemExit as ended:
            status = int(ended.code or 0)
        assert status == 0, words


@pytest.mark.parametrize(("page", "file"), CONFIGS)
def test_the_configs_of_a_page_train(page: str, file: str, own_files: None) -> None:
    write_files(page)
    assert main(["fit", f"--config={file}", *TINY]) == 0


def test_the_classes_of_the_page_on_extending_train_by_its_commands(own_files: None) -> None:
    lines = [line for line in commands("docs/extend.md") if re.match("fit .*(my_networks|my_tasks)", line)]
    assert len(lines) == 2
    for line in lines:
        assert main([*shlex.split(line), *TINY]) == 0, line


def test_the_loss_of_the_readme_is_an_option_of_its_first_run(own_files: None) -> None:
    write_files("README.md")
    assert "--model.losses.kd my_losses.CentredLogits" in (ROOT / "README.md").read_text()
    assert main(["fit", "--config=quickstart.yaml", "--model.losses.kd=my_losses.CentredLogits", *TINY]) == 0


def test_the_data_source_of_the_page_on_extending_is_described_and_trained_on(
    own_files: None, capsys: pytest.CaptureFixture[str]
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    for split in ("train", "test"):
        np.savez(f"{split}.npz", images=images, labels=np.arange(40) % 2)
    lines = [line for line in commands("docs/extend.md") if "my_data" in line]
    assert len(lines) == 2
    for line in lines:
        assert main([*shlex.split(line), *(SMOKE if line.startswith("fit") else [])]) == 0, line
    assert "Arrays: 2 classes of 8x8 images, 3 channel(s)" in capsys.readouterr().out


def test_the_studies_of_the_page_on_comparing_are_some(own_files: None) -> None:
    studies = [block for block in blocks("docs/compare.md", "yaml") if "compared:" in block]
    found = []
    for block in studies:
        Path("own.yaml").write_text(block if "baseline:" in block else f"baseline: {{config: student.yaml}}\n{block}")
        found.append([row.title for row in read_request(["--config", "own.yaml"]).study.rows])
    assert found == [
        ["student", "cosine"],
        ["student", "cosine"],
        ["teacher", "student", "cosine", "cosine, half of the loss"],
    ]


def test_the_stages_of_review_kd_are_layers_of_the_standard_pair(own_files: None) -> None:
    (losses,) = (block for block in blocks("docs/methods.md", "yaml") if block.startswith("losses:"))
    Path("overlay.yaml").write_text("model:\n  init_args:\n    " + losses.replace("\n", "\n    "))
    assert main(["fit", "--config=cifar100_resnet8x4_kd.yaml", "--config=overlay.yaml", *TINY]) == 0


def test_the_loop_over_images_of_the_page_on_serving_runs(temp_folder: Path) -> None:
    Path("EvalDataset").mkdir()
    Image.new("RGB", (40, 30)).save("EvalDataset/one.png")
    torch.save(DeepNN().state_dict(), "NNDeep.pth")
    (loop,) = blocks("docs/serving.md", "python")
    names: dict[str, Any] = {}
    exec(loop, names)  # what a reader would run
    assert [result["image"] for result in names["results"]] == ["one.png"]


def test_the_readme_predicts_one_image(temp_folder: Path, fp32: Path) -> None:
    Path("ImagePredictorStaticInt8.onnx").symlink_to(fp32)
    Image.new("RGB", (40, 30)).save("cat.jpg")
    (lines,) = (block for block in blocks("README.md", "python") if "predict_image" in block)
    names: dict[str, Any] = {}
    exec(lines, names)
    assert names["label"] == str(np.argmax(names["probabilities"]))  # the network knows the digits


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_page_lists_what_the_docstrings_describe(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text == write_docs.written(text), f"{page.name} is old; `python tests/write_docs.py` writes its tables again"


def test_the_pages_list_every_kind_once() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert sorted(re.findall(r"<!-- list (\w+) -->\n\n\|", text)) == sorted(NAMES)


@pytest.mark.parametrize("page", [*map(name, PAGES), "CONTRIBUTING.md", "CHANGELOG.md"])
def test_every_link_of_a_page_leads_to_a_file_and_to_one_of_its_headings(page: str) -> None:
    for target in re.findall(r"(?<!!)\[[^]]*\]\(([^)]+)\)", (ROOT / page).read_text()):
        if not target.startswith("http"):
            path, _, anchor = target.partition("#")
            file = (ROOT / page).parent / path if path else ROOT / page
            assert file.is_file(), target
            assert not anchor or anchor in anchors(file), target


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, which a forge and MkDocs make alike."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_the_readme_is_one_page() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) < 150
