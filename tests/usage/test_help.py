"""A command's help is one screen, and its examples and options are true."""

import re
import shlex
import subprocess
import sys
from contextlib import suppress

import pytest

from kd_lightning.cli import COMMANDS, main
from kd_lightning.errors import UserError
from kd_lightning.usage import names
from kd_lightning.usage.first_look import check_arguments
from kd_lightning.usage.help import GROUPS, short_help
from kd_lightning.usage.settings import Settings
from kd_lightning.usage.texts import TEXTS


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_fits_a_screen(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with suppress(SystemExit):  # of argparse
        main([command, "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"usage: kd-lightning {command} ")
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("command", TEXTS)
def test_the_examples_and_the_options_of_a_help_are_true(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "has_other_classes", lambda: False)
    text = TEXTS[command].replace("\\\n", " ")
    examples = re.findall(rf"^  (kd-lightning {command} .*)", text, re.MULTILINE)
    assert len(examples) == 3
    for example in examples:
        if "lightning_logs" not in example:
            check_arguments(shlex.split(example)[1:])
    options = re.findall(r"^  --([\w.]+)", text.partition("options:")[2].partition("more:")[0], re.MULTILINE)
    assert 3 <= len(options) <= 16
    for option in options:
        Settings(command).add({option.replace("OPTION", "max_epochs"): None}, own_only=True)


@pytest.mark.parametrize("group", GROUPS)
def test_the_help_of_a_group_is_its_options(group: str) -> None:
    expected = {
        "model": "--model.losses.kd.temperature",
        "losses": "SoftTargets",
        "networks": "ResNet9",
        "teachers": "FileTeacher",
        "tasks": "CosineDistill",
        "data": "ShapesDataModule",
        "augmentations": "HorizontalFlip",
        "trainer": "--trainer.max_epochs\n    Stop training once this number of epochs is reached.",
        "files": "--files.weights\n    The weights, a `.pth`, or a `.safetensors`,",
    }
    assert expected[group] in (short_help(["fit", "--help", group], 80) or "")


def test_all_options_are_shown_by_the_commands_own_parser() -> None:
    assert short_help(["fit", "--help", "all"], 80) is None
    with pytest.raises(UserError, match="there is no group 'modle' of options; choose one of model, losses"):
        short_help(["fit", "--help", "modle"], 80)


def test_help_is_printed_without_torch() -> None:
    program = "import sys; from kd_lightning.cli import main; main(sys.argv[1:]); print('torch' in sys.modules)"
    for args in (["fit", "--help"], ["fit", "--config", "x.yaml", "--help", "trainer"]):
        done = subprocess.run([sys.executable, "-c", program, *args], capture_output=True, text=True, check=True)
        assert done.stdout.splitlines()[-1] == "False"
