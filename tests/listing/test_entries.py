"""What `list` shows: it is read from the source, agrees with Python and the parser, and documents every option."""

import json
from importlib import import_module
from inspect import isabstract
from typing import Any

import pytest
import yaml
from jsonargparse import ArgumentParser

import kd_lightning.data.image_folder
import kd_lightning.data.shapes
import kd_lightning.data.torchvision_sets  # noqa: F401  bare class names are those of imported classes
from kd_lightning.data import ImageDataModule
from kd_lightning.data.augment import Augmentation
from kd_lightning.listing.classes import REQUIRED, Code
from kd_lightning.listing.configs import shipped_configs
from kd_lightning.listing.kinds import KINDS, Entry, entries
from kd_lightning.listing.snippet import snippet
from kd_lightning.losses import Loss
from kd_lightning.networks import Network
from kd_lightning.tasks import Task
from kd_lightning.teacher import AnyTeacher
from kd_lightning.training.suggest import FROM_DATA

ALL = [entry for kind in KINDS.values() for entry in entries(kind)]
LOSSES = entries(KINDS["losses"])
TYPES: dict[str, Any] = {
    "Loss": dict[str, Loss],
    "Network": Network,
    "AnyTeacher": AnyTeacher,
    "Task": Task,
    "ImageDataModule": ImageDataModule,
    "Augmentation": list[Augmentation],
}
NO_PAPER = {"SpatialCosine", "HiddenCosine"}
"""Losses that no paper has."""
LONGEST = 140

each = pytest.mark.parametrize("entry", ALL, ids=lambda entry: entry.source.name)


def live(entry: Entry) -> type[Any]:
    kind: type[Any] = getattr(import_module(entry.kind.package), entry.source.name)
    return kind


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_the_classes_of_a_kind_are_those_that_its_package_exports_and_that_can_be_built(kind: Any) -> None:
    package = import_module(kind.package)
    base = getattr(package, kind.base)
    exported = [getattr(package, name) for name in sorted(package.__all__, key=str.lower)]
    classes = [value for value in exported if isinstance(value, type) and issubclass(value, base) and value is not base]
    assert [entry.source.name for entry in entries(kind)] == [
        value.__name__ for value in classes if not isabstract(value)
    ]


@each
def test_its_options_and_defaults_are_those_that_the_parser_takes(entry: Entry) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(live(entry), "it", fail_untyped=False)
    defaults = {name.removeprefix("it."): value for name, value in vars(parser.get_defaults()["it"]).items()}
    found = {option.name: option.default for option in entry.source.options}
    assert set(found) == set(defaults)
    for name, default in found.items():
        if default is REQUIRED:
            assert defaults[name] is None, name
        elif not isinstance(default, Code):
            assert default == defaults[name], name
    assert {option.name for option in entry.options} == set(defaults) - (
        set(FROM_DATA) if entry.kind.base == "Network" else set()
    )


@each
def test_its_first_line_is_one_sentence_that_fits_a_table_and_each_option_has_a_line_of_help(entry: Entry) -> None:
    title = entry.source.title
    assert title.endswith("."), f"{entry.source.name}: the first line of its docstring is to be one sentence: {title}"
    assert 10 < len(title) <= LONGEST
    silent = [option.name for option in entry.options if not option.help.endswith(".")]
    assert not silent, f"{entry.source.name}: its docstring's Args have no sentence on {silent}"


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.source.name)
def test_a_loss_names_its_paper(loss: Entry) -> None:
    description = loss.source.docstring.long_description or ""
    assert "https://" in description or loss.source.name in NO_PAPER
    assert "``" in description or loss.source.name in NO_PAPER, "its formula stands between double backticks"


def test_losses_have_short_names_of_their_own() -> None:
    names = [name for loss in LOSSES for name in loss.names]
    assert len(names) == len(set(names))
    for loss in LOSSES:
        assert loss.source.short == live(loss).short == loss.source.short.lower() != "", loss.source.name


@each
def test_what_a_config_is_to_have_is_taken_by_the_parser(entry: Entry) -> None:
    value = yaml.safe_load(snippet(entry))
    first, *others = entry.kind.place.removesuffix(".NAME").split(".")
    value = value[first]["init_args"][others[0]] if others else value[first]
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--it", type=TYPES[entry.kind.base])
    taken = parser.parse_args([f"--it={json.dumps(value)}"])
    assert entry.source.name in str(taken.it)


@pytest.mark.parametrize("config", shipped_configs(), ids=lambda config: config.name)
def test_a_config_begins_with_how_to_run_it_and_what_it_is(config: Any) -> None:
    first, second = config.text.splitlines()[:2]
    assert first == f"# {config.command}"
    assert config.command.split()[1] in ("fit", "compare")
    assert f"--config {config.name}" in config.command
    assert second == f"# {config.what}"
    assert config.what.endswith((".", "?"))
