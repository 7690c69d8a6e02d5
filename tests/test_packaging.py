from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_readmes_two_commands_are_what_ci_runs() -> None:
    readme = (ROOT / "README.md").read_text()
    assert 'pip install -e ".[dev]" && python -m kd_lightning fit --config quickstart.yaml' in readme
    assert "python -m pytest" in readme
    assert "python -m pytest" in (ROOT / ".ci" / "run").read_text()
