"""A class that an option or a second config puts in another's place starts with its own defaults."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from kd_lightning.cli import main
from kd_lightning.training.config_files import SHIPPED

CONFIG = "student_distilled.yaml"
"""Labels at 0.1, and DIST at 0.9 with temperature 2; ResNet9 of width 16 teaches."""


def resolved(capsys: pytest.CaptureFixture[str], *options: str, config: str = CONFIG) -> dict[str, Any]:
    """Return the task's settings as ``--print_config`` shows them."""
    with pytest.raises(SystemExit):
        main(["fit", f"--config={config}", *options, "--print_config"])
    settings: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]
    return settings


def test_a_mapping_of_losses_keeps_nothing_of_the_config(capsys: pytest.CaptureFixture[str]) -> None:
    """The weights of the config are not the method's."""
    losses = resolved(capsys, "--model.losses={labels: CrossEntropy, kd: SoftTargets}")["losses"]
    assert losses["labels"]["init_args"]["weight"] == 1
    assert losses["kd"]["init_args"]["temperature"] == 4
    losses = resolved(capsys, "--model.losses={kd: {class_path: DIST, init_args: {beta: 2}}}")["losses"]
    assert list(losses) == ["kd"]
    assert losses["kd"]["init_args"] == {
        "temperature": 4,
        "beta": 2,
        "gamma": 1,
        "standardize": False,
        "gather": False,
        "weight": 2,
        "warm_up": 0,
    }


@pytest.mark.parametrize("option", ["kd=WTTM", "kd={class_path: WTTM}"])
def test_a_loss_in_anothers_place_has_its_own_weight(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The other losses stay as they are."""
    losses = resolved(capsys, f"--model.losses.{option}")["losses"]
    assert losses["kd"]["init_args"] == {"gamma": 0.2, "standardize": False, "weight": 4, "warm_up": 0}
    assert losses["labels"]["init_args"]["weight"] == 0.1


@pytest.mark.parametrize("option", ["kd.temperature=3", "kd={temperature: 3}"])
def test_one_setting_leaves_the_others(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing takes the loss's place."""
    kd = resolved(capsys, f"--model.losses.{option}")["losses"]["kd"]["init_args"]
    assert (kd["temperature"], kd["weight"]) == (3, 0.9)


@pytest.mark.parametrize("network", ["network", "teacher.network", "teacher"])
def test_a_network_in_anothers_place_has_its_own_width(network: str, capsys: pytest.CaptureFixture[str]) -> None:
    """ResNet9's width of 16 would be another network's sixteenfold one."""
    value = "{class_path: Teacher, init_args: {network: WideResNet}}" if network == "teacher" else "WideResNet"
    settings = resolved(
        capsys, "--model.network={class_path: ResNet9, init_args: {width: 16}}", f"--model.{network}={value}"
    )
    built = settings["network"] if network == "network" else settings["teacher"]["init_args"]["network"]
    assert built["init_args"] == {"depth": 16, "width": 2}


def test_an_augmentation_in_anothers_place_has_its_own_settings(capsys: pytest.CaptureFixture[str]) -> None:
    """Mixup's alpha is not CutMix's, and a list is taken as it is written; one setting leaves the others."""
    mixed = "--data.augment=[{class_path: Mixup, init_args: {alpha: 0.3}}]"
    after = "--data.augment=[CutMix]", "--data.augment=[Mixup]", "--data.augment.seed=3"
    alphas = []
    for option in after:
        with pytest.raises(SystemExit):
            main(["fit", f"--config={CONFIG}", mixed, option, "--print_config"])
        settings = yaml.safe_load(capsys.readouterr().out)["data"]["init_args"]["augment"]
        alphas.append(settings[0]["init_args"]["alpha"])
    assert alphas == [1, 0.2, 0.3]


def test_a_second_config_names_classes_as_an_option_does(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The settings that it does not name stay the first one's."""
    named = {"network": "ResNet", "losses": {"labels": "CrossEntropy", "kd": "DIST"}}
    named["teacher"] = {"class_path": "Teacher", "init_args": {"network": {"class_path": "ResNet"}}}
    (tmp_path / "second.yaml").write_text(yaml.safe_dump({"model": {"class_path": "Distill", "init_args": named}}))
    settings = resolved(capsys, f"--config={tmp_path / 'second.yaml'}")
    assert settings["losses"]["kd"]["init_args"]["weight"] == 2
    assert settings["network"]["init_args"] == {"depth": 20, "width": 1}
    assert settings["teacher"]["init_args"]["network"]["init_args"] == {"depth": 20, "width": 1}
    assert settings["teacher"]["init_args"]["config"] == "middle_teacher.yaml"
    assert settings["optimizer"]["init_args"]["lr"] == 3e-3


def test_what_a_config_printed_is_read_back(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A run's own config names every class, and sets all of each."""
    with pytest.raises(SystemExit):
        main(["fit", f"--config={SHIPPED / CONFIG}", "--model.losses.kd.weight=0.7", "--print_config"])
    (tmp_path / "printed.yaml").write_text(capsys.readouterr().out)
    settings = resolved(capsys, f"--config={tmp_path / 'printed.yaml'}")
    assert settings["losses"]["kd"]["init_args"]["weight"] == 0.7
    assert settings == resolved(capsys, "--model.losses.kd.weight=0.7")
