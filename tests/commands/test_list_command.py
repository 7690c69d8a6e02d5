"""``list``: all there is, one kind, one thing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kd_lightning.cli import main
from kd_lightning.commands.list import NAMES
from kd_lightning.listing import text
from kd_lightning.listing.configs import shipped_configs
from kd_lightning.listing.kinds import KINDS, find_entry

OWN = '''
import torch.nn

from kd_lightning import losses

WEIGHT = 3.0


class Base(losses.LogitLoss):
    """Not for configs.

    Args:
        standardize: Whether logits are standardized.
    """

    def __init__(self, standardize: bool = False, weight: float = WEIGHT, warm_up: int = 0) -> None:
        super().__init__(weight, warm_up)


class Own(Base):
    """The loss of a user.

    A formula: ``a b``.

    Args:
        sharpness: How sharp.
    """

    def __init__(self, sharpness: "float | None" = None, **options) -> None:
        super().__init__(**options)


class Linear(torch.nn.Linear):
    """A layer."""


class Odd(losses.SoftTargets):
    """One with what cannot be read."""

    short = "k".upper()

    def __init__(self, *args: "no type", **options) -> None:
        super().__init__(*args, **options)
'''


@pytest.fixture
def own_losses(temp_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of a user's in the working directory."""
    monkeypatch.syspath_prepend(str(temp_folder))
    Path("listed_losses.py").write_text(OWN)
    Path("listed_broken.py").write_text("class Own(:\n")


def test_list_shows_every_kind_without_importing_torch_or_lightning() -> None:
    program = (
        "import sys; from kd_lightning.cli import main; print(main(['list']), {'torch', 'lightning'} & {*sys.modules})"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output.splitlines()[-1] == "0 set()"
    for kind in NAMES:
        assert f"\n{kind}:\n" in f"\n{output}"
    for line in (
        "  SoftTargets ",
        "  LightNN ",
        "  Distill ",
        "  CIFAR10DataModule ",
        "  CutMix ",
        "  quickstart.yaml ",
    ):
        assert f"\n{line}" in output


@pytest.mark.parametrize("name", ["KD", "softtargets", "kd_lightning.losses.SoftTargets"])
def test_a_loss_is_shown_by_each_of_its_names(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "losses", name]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("SoftTargets (kd): The divergence of ")
    assert "https://arxiv.org/abs/1503.02531" in shown
    assert "\n  temperature  T, above 0. (float; default: 4.0)\n" in shown
    assert "class_path: SoftTargets\n" in shown


def test_data_and_networks_do_without_the_ending_of_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "data", "cifar10"]) == main(["list", "networks", "torchvision"]) == 0
    assert main(["list", "losses", "reviewkd"]) == 0
    shown = capsys.readouterr().out
    assert "student: [features.1, features]" in shown  # a loss on several layers: two
    assert "CIFAR10DataModule: " in shown
    assert "\n  batch_size " in shown  # of the base class
    assert "TorchvisionNetwork: " in shown
    assert "num_classes " not in shown  # the data give it


def test_a_config_is_shown_with_what_runs_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "configs", "quickstart"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "run it: kd-lightning fit --config quickstart.yaml"
    config = next(config for config in shipped_configs() if config.name == "quickstart.yaml")
    assert lines[:-2] == config.text.splitlines()


def test_a_config_of_ones_own_is_run_by_its_kinds_command(
    temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("my study.yaml").write_text("# What I want to know.\nbaseline: {config: student.yaml}\n")
    Path("mine.yaml").write_text("model: Classifier\x1b[2J\n")
    assert main(["list", "configs", "my study"]) == main(["list", "configs", "mine.yaml"]) == 0
    shown = capsys.readouterr().out
    assert "run it: kd-lightning compare --config 'my study.yaml'\n" in shown
    assert "run it: kd-lightning fit --config mine.yaml\n" in shown
    assert "model: Classifier\\x1b[2J\n" in shown


def test_a_class_of_ones_own_is_read_and_not_run(own_losses: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "losses", "listed_losses.Own"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("listed_losses.Own: The loss of a user.\n\nA formula: `a b`.\n")
    assert "  sharpness    How sharp. (float | null; default: null)\n" in shown
    assert "  standardize  Whether logits are standardized. (bool; default: false)\n" in shown
    assert "  weight       Factor of the term in the total loss. (float; default: 3.0)\n" in shown  # two bases above
    assert "class_path: listed_losses.Own\n" in shown
    assert shown.endswith("\nsource: listed_losses.py\n")
    assert "listed_losses" not in sys.modules


def test_unreadable_parts_of_a_class_are_shown_unchanged(own_losses: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "losses", "listed_losses.Odd"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("listed_losses.Odd ('k'.upper()): One with what cannot be read.\n")
    assert "\n  temperature  T, above 0. (float; default: 4.0)\n" in shown


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["lossse"], "(did you mean losses?); choose one of losses, networks, teachers,"),
        (["quickstart"], "(did you mean `list configs quickstart`?)"),
        (["losses", "SoftTargts"], "there is no 'SoftTargts' in losses (did you mean SoftTargets or HardTargets?)"),
        (["losses", "x\x1b[2J"], r"there is no 'x\x1b[2J' in losses; `list losses` shows all"),
        (["losses", "listed_losses.None"], "there is no class listed_losses.None"),
        (["losses", "listed_losses.Linear"], "listed_losses.Linear is not a subclass of Loss"),
        (["losses", "listed_broken.Own"], "listed_broken.py is not valid Python (invalid syntax"),
        (["configs", "nothing"], "there is no config 'nothing.yaml'"),
        (["losses", "kd", "more"], "unrecognized arguments: more; `kd-lightning list --help`"),
    ],
)
def test_an_unknown_name_is_one_sentence(
    args: list[str], expected: str, own_losses: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", *args]) == 2
    output = capsys.readouterr()
    assert expected in output.err
    assert output.err.count("\n") == 1
    assert not output.out


@pytest.mark.parametrize("width", [20, 60])
def test_lines_fit_the_terminal_and_lose_no_word(width: int) -> None:
    whole, narrow = (
        [*text.one_kind("losses", room), *text.one_class(find_entry("at", "losses"), room)] for room in (None, width)
    )
    assert " ".join(narrow).split() == " ".join(whole).split()
    long_words = ("`", "https", "class_path", "student: [", "source: ")  # YAML is not broken
    assert all(len(line) <= max(width, 32) for line in narrow if not any(word in line for word in long_words))


def test_a_reader_that_closes_the_pipe_ends_it_quietly() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "kd_lightning", "list"]
    process = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (process.returncode, process.stderr) == (141, b"")


def test_the_kinds_are_those_that_the_parser_offers_choices_of() -> None:
    from kd_lightning.training.class_choices import CHOICES

    assert {kind.base for kind in KINDS.values()} == {base.__name__ for base in CHOICES.values()} - {"Callback"}
