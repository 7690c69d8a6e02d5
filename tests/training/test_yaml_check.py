from pathlib import Path

import pytest

from kd_lightning.cli import main
from kd_lightning.errors import UserError
from kd_lightning.training.config_files import SHIPPED
from kd_lightning.training.yaml_check import read_yaml

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 9)
)

REFUSED = {
    "anchors": (LAUGHS, "more than 20,000 values"),
    "itself": ("a: &a [*a]", "is no valid YAML"),
    "levels": ("a: " + "[" * 100_000, "50 levels"),
    "mappings": ("{a: " * 100, "50 levels"),
    "size": ("a: b\n" + "#" * 2**18, "256 KiB"),
    "values": ("a: [" + "1," * 30_000 + "]", "more than 20,000 values"),
    "half a letter": ('a: "\\ud800"', "half a letter"),
    "zero byte": ('a: "\\0"', "zero byte"),
    "date": ("a: 2001-99-99", "no valid YAML"),
    "number": ("a: " + "9" * 5000, "no valid YAML"),
    "list": ("[a]", "no `key: value`"),
    "empty": ("", "no `key: value`"),
    "tag": ("a: !!python/object:os.system {}", "no valid YAML in line 1"),
    "tab": ("a:\n\t- b", "no valid YAML in line 2"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_config_that_is_none_is_refused_before_it_is_built(tmp_path: Path, name: str) -> None:
    text, expected = REFUSED[name]
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UserError, match=r"the config .*a\.yaml is no valid YAML") as caught:
        read_yaml(tmp_path / "a.yaml")
    assert expected in str(caught.value)


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.name)
def test_the_shipped_configs_are_let_through(path: Path) -> None:
    assert read_yaml(path)


def test_aliases_that_stay_small_are_let_through(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: &x {b: [1, 2]}\nc: *x\nd:\n  <<: *x\n")
    assert read_yaml(tmp_path / "a.yaml") == {"a": {"b": [1, 2]}, "c": {"b": [1, 2]}, "d": {"b": [1, 2]}}


@pytest.mark.parametrize("command", ["fit", "compare"])
def test_both_configs_and_studies_are_looked_through(
    workplace: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    Path("a.yaml").write_text(LAUGHS)
    assert main([command, "--config", "a.yaml"]) == 2
    assert "more than 20,000 values" in capsys.readouterr().err
