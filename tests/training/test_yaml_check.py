import re
from pathlib import Path

import pytest

from kd_lightning.cli import main
from kd_lightning.errors import UserError
from kd_lightning.training.yaml_check import read_yaml

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 9)
)
"""https://en.wikipedia.org/wiki/Billion_laughs_attack"""

REFUSED = {
    "anchors": (LAUGHS, "more than 20,000 values"),
    "itself": ("a: &a [*a]", "more than 20,000 values"),
    "levels": ("a: " + "[" * 100_000, "is not valid YAML"),
    "size": ("a: b\n" + "#" * 2**18, "256 KiB"),
    "date": ("a: 2001-99-99", "not valid YAML"),
    "number": ("a: " + "9" * 5000, "not valid YAML"),
    "list": ("[a]", "no `key: value`"),
    "empty": ("", "no `key: value`"),
    "tag": ("a: !!python/object:os.system {}", "not valid YAML in line 1"),
    "tab": ("a:\n\t- b", "not valid YAML in line 2"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_invalid_config_is_refused_before_it_is_built(tmp_path: Path, name: str) -> None:
    text, expected = REFUSED[name]
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UserError, match=r"the config .*a\.yaml (is not valid YAML|has more than)") as caught:
        read_yaml(tmp_path / "a.yaml")
    assert expected in str(caught.value)


def test_aliases_and_merges_are_accepted(tmp_path: Path) -> None:
    """Keys have two characters: PyYAML confuses equal keys of one character in a merge of a merge."""
    text = "aa: &x {bb: 1, cc: 2}\ndd: &y\n  <<: *x\n  bb: 3\nee: {<<: *y, cc: 4}\nff: [*x, *x, bb, bb]\n"
    (tmp_path / "a.yaml").write_text(text)
    content = read_yaml(tmp_path / "a.yaml")
    assert (content["dd"], content["ee"]) == ({"bb": 3, "cc": 2}, {"bb": 3, "cc": 4})
    assert content["ff"] == [{"bb": 1, "cc": 2}] * 2 + ["bb", "bb"]


TWICE = {
    "losses": (
        "model:\n  losses:\n    kd: DIST\n    kd: {class_path: DKD}\n",
        "'kd' twice in one mapping, again in line 4",
    ),
    "section": ("trainer: {a: 1}\ndata: b\n'trainer': {c: 1}\n", "'trainer' twice in one mapping, again in line 3"),
    "anchored": ("a: &x [{b: 1, b: 2}]\nc: *x\n", "'b' twice in one mapping, again in line 1"),
}


@pytest.mark.parametrize("name", TWICE)
def test_a_repeated_key_is_refused_with_its_line(tmp_path: Path, name: str) -> None:
    """PyYAML takes the last one: https://github.com/yaml/pyyaml/issues/165."""
    text, expected = TWICE[name]
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(UserError, match=r"the config .*a\.yaml has ") as caught:
        read_yaml(tmp_path / "a.yaml")
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    "args",
    [
        ["fit", "--config=quickstart.yaml", "--model.losses={kd: DIST, kd: DKD}"],
        ["fit", "--config=quickstart.yaml", "--data=part.yaml"],
        ["data", "--data=part.yaml"],
        ["compare", "--config=study.yaml"],
        ["benchmark", "--config=quickstart.yaml", "--config=twice.yaml"],
    ],
)
def test_a_repeated_key_is_refused_wherever_yaml_is_read(
    args: list[str], temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("part.yaml").write_text("class_path: ShapesDataModule\ninit_args:\n  batch_size: 8\n  batch_size: 16\n")
    Path("twice.yaml").write_text("trainer: {max_epochs: 1}\ntrainer: {max_epochs: 2}\n")
    Path("study.yaml").write_text(
        "baseline: {config: student.yaml}\ncompared: [{config: cosine.yaml, config: student.yaml}]\n"
    )
    assert main(args) == 2
    assert re.search(r"error: .* has '\w+' twice in one mapping, again in line [124]; remove", capsys.readouterr().err)


def test_a_value_that_expands_to_gigabytes_is_refused_too(
    temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("part.yaml").write_text(LAUGHS)
    assert main(["data", "--data=part.yaml"]) == 2
    assert "has more than 20,000 values, aliases included; shorten it." in capsys.readouterr().err
