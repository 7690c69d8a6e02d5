import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_wheel_holds_every_package_and_the_configs() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        setuptools = tomllib.load(file)["tool"]["setuptools"]
    packages = {
        path.parent.relative_to(ROOT).as_posix().replace("/", ".") for path in ROOT.glob("kd_lightning/**/*.py")
    }
    assert set(setuptools["packages"]) == packages | {"kd_lightning.configs"}
    data = {f"{package}/{pattern}" for package, patterns in setuptools["package-data"].items() for pattern in patterns}
    others = {path for path in ROOT.glob("kd_lightning/**/*.*") if path.suffix in {".html", ".css", ".js", ".yaml"}}
    for path in others:
        package = path.parent.relative_to(ROOT).as_posix().replace("/", ".")
        assert f"{package}/*{path.suffix}" in data


def test_the_readmes_two_commands_are_what_ci_runs() -> None:
    readme = (ROOT / "README.md").read_text()
    assert 'pip install -e ".[dev]" && python -m kd_lightning fit --config quickstart.yaml' in readme
    assert "python -m pytest" in readme
    assert "python -m pytest" in (ROOT / ".ci" / "run").read_text()
