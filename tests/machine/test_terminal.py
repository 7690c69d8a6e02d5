"""What is printed fits the terminal; where there is none, 80 columns."""

import os
import shlex
import subprocess
import sys

import pytest

from kd_lightning.machine.progress import Bar
from kd_lightning.machine.terminal import command_text, fitted

PATH = "lightning_logs/quickstart_teacher/version_0/ResNet9.pth"


def test_text_is_broken_between_words_and_goes_on_with_a_hanging_indent() -> None:
    text = fitted(f"first\n  Teacher: {PATH} (ResNet9 trained for 8 epochs, test accuracy 97.26 %)", 60)
    assert text.splitlines() == [
        "first",
        "  Teacher:",
        f"      {PATH}",
        "      (ResNet9 trained for 8 epochs, test accuracy 97.26 %)",
    ]


def test_a_path_a_command_and_a_number_with_its_unit_stay_whole_in_a_narrow_terminal() -> None:
    lines = fitted(
        f"see {PATH}, or train it with `kd-lightning fit --config mine.yaml`: it takes 3 min", 40
    ).splitlines()
    assert lines[1].strip() == f"{PATH},"
    assert "    `kd-lightning fit --config mine.yaml`:" in lines
    assert lines[-1].strip().endswith("3 min")


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_a_command_of_any_width_is_what_a_shell_takes_it_for(width: int) -> None:
    words = ["kd-lightning", "predict", "my images", "--model", "lightning_logs/a/version_0/m.onnx"]
    text = command_text(words, width)
    assert all(len(line) <= width for line in text.splitlines())
    assert shlex.split(text.replace("\\\n", "")) == words  # as a shell does
    assert ("\\" in text) == (width < 80)


def test_a_command_after_a_sentence_can_be_copied() -> None:
    words = ["kd-lightning", "compare", "--config", "my study.yaml", "--output", "lightning_logs/study_2"]
    sentence, text = fitted(f"A new study has new seeds: {shlex.join(words)}", 60).split("\n", 1)
    assert sentence == "A new study has new seeds:"
    assert shlex.split(text.replace("\\\n", "")) == words


@pytest.mark.parametrize(("given", "width"), [({}, 80), ({"COLUMNS": "120"}, 120), ({"COLUMNS": "10"}, 40)])
def test_the_width_is_80_without_a_terminal_and_what_the_environment_says(given: dict[str, str], width: int) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"} | given
    code = "from kd_lightning.machine.terminal import columns, is_redrawable; print(columns(), is_redrawable())"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(width), "False"]


@pytest.mark.parametrize("no_color", [False, True])
def test_a_bar_is_one_row_that_goes_and_has_no_colour_where_none_is_wanted(
    no_color: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "50", "LINES": "20"}.items():
        monkeypatch.setenv(name, value)  # rich takes it for a terminal
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    bar = Bar()
    bar.show("epoch 1/50  a text that is too long for fifty columns", 1, 4)
    bar.show("epoch 1/50", 2, 4)
    assert not bar.is_due
    drawn = capsys.readouterr().out
    assert drawn.count("\n") == 0
    assert "epoch 1/50" in drawn
    assert ("\x1b[0m" in drawn) != no_color
    bar.hide()
    assert capsys.readouterr().out.endswith(("\x1b[2K", "\x1b[?25h", "\x1b[1A\x1b[2K"))
