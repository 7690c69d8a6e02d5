import subprocess
import sys
from pathlib import Path

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


def test_the_program_finds_modules_in_the_working_folder_but_none_in_place_of_installed_ones(temp_folder: Path) -> None:
    Path("own_losses.py").write_text('from kd_lightning.losses import DIST\n\n\nclass Own(DIST):\n    """My own."""\n')
    Path("difflib.py").write_text("raise SystemExit(3)\n")
    program = Path(sys.executable).with_name("kd-lightning")
    done = subprocess.run([program, "list", "losses", "own_losses.Own"], capture_output=True, text=True, check=True)
    assert "My own." in done.stdout


@pytest.mark.parametrize("command", ["fit --config quickstart.yaml", "list", "export --model x.pth", "stats --help"])
def test_an_installation_that_can_only_predict_says_so(command: str) -> None:
    program = (
        "import sys\n"
        "for name in ('torch', 'lightning', 'jsonargparse', 'yaml', 'docstring_parser'): sys.modules[name] = None\n"
        "from kd_lightning.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *command.split()], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: `{command.split()[0]}` needs PyTorch and more (")
    assert done.stderr.endswith("only `kd-lightning predict IMAGE --model FILE.onnx` works.\n")
    assert done.stderr.count("\n") == 1
