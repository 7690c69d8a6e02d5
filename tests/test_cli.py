import subprocess
import sys

import pytest

from kd_lightning.cli import COMMANDS, main


def test_help_lists_every_command_and_imports_no_torch() -> None:
    program = "import sys; from kd_lightning.cli import main; print(main(['--help']), 'torch' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output.splitlines()[-1] == "0 False"
    for command in COMMANDS:
        assert f"\n  {command} " in output


@pytest.mark.parametrize(
    ("args", "expected"), [(["fitt"], "there is no command 'fitt'; did you mean fit?"), ([], "usage:")]
)
def test_a_wrong_or_missing_command_ends_with_status_2(
    args: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(args) == 2
    output = capsys.readouterr()
    assert expected in output.out + output.err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_all_its_options(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help", "all"])
    assert stop.value.code == 0
    assert "usage:" in capsys.readouterr().out


def test_the_program_runs_as_a_module_and_prints_its_version() -> None:
    process = subprocess.run(
        [sys.executable, "-m", "kd_lightning", "--version"], capture_output=True, text=True, check=True
    )
    assert process.stdout.count(".") == 2
