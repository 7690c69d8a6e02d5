"""Mistakes in names are answered before torch is imported, and nothing that the parser takes is refused."""

import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
from jsonargparse import ArgumentParser

from kd_lightning.cli import COMMANDS
from kd_lightning.errors import UserError
from kd_lightning.listing.kinds import KINDS, entries
from kd_lightning.training.config_files import SHIPPED
from kd_lightning.training.parser import Parser
from kd_lightning.usage import names
from kd_lightning.usage.first_look import check_arguments

QUICK = "fit --config quickstart.yaml"

MISTAKES = {
    "fit": "fit needs a config: `kd-lightning fit --config quickstart.yaml`; `kd-lightning list configs` shows all.",
    "compare --seeds 3": "compare needs a study: `kd-lightning compare --config quickstart_compare.yaml`; ",
    "fit cosine.yaml": "a config comes after --config: `kd-lightning fit --config cosine.yaml`.",
    "fit --config cosin.yaml": "there is no config 'cosin.yaml'; did you mean cosine.yaml?",
    "fit --config levers.yaml": "levers.yaml is a study: run it with `kd-lightning compare --config levers.yaml`.",
    "compare --config student.yaml": "not a study: it has no rows in `compared`; run it with `kd-lightning fit --con",
    f"{QUICK} student.yaml": "each config has its own --config: `kd-lightning fit --config student.yaml`.",
    f"{QUICK} --data.augment RandomCrop Mixup": "a list is one word: --data.augment '[A, B]'.",
    f"{QUICK} --epochs 3": "there is no option --epochs; did you mean --trainer.max_epochs?",
    f"{QUICK} --max_epochs=3": "there is no option --max_epochs; did you mean --trainer.max_epochs?",
    f"{QUICK} --trainer.epochs 3": "there is no option --trainer.epochs; did you mean --trainer.max_epochs?",
    f"{QUICK} --lr 1": "there is no option --lr; did you mean --model.optimizer.lr?",
    f"{QUICK} --model.lr 1": "there is no option --model.lr; did you mean --model.optimizer.lr?",
    f"{QUICK} --batch_size 3": "there is no option --batch_size; did you mean --data.batch_size?",
    f"{QUICK} --model.temperature 3": "did you mean --model.losses.kd.temperature?",
    f"{QUICK} --model.losses.kd.temprature 3": "did you mean --model.losses.kd.temperature?",
    f"{QUICK} --model.losses.kd DIST --model.losses.kd.temprature 3": "did you mean --model.losses.kd.temperature?",
    f"{QUICK} --modle.network LightNN": "there is no option --modle.network; did you mean --model.network?",
    f"{QUICK} --model.network.depth 3": "there is no option --model.network.depth; LightNN has dropout.",
    f'{QUICK} --model.teacher={{"class_path":"Teacher","init_args":{{"weihts":1}}}}': (
        "there is no option --model.teacher.weihts; did you mean --model.teacher.weights?"
    ),
    f"{QUICK} --model.network VGG --model.network.dropout 0": "there is no option --model.network.dropout; VGG has",
    f"{QUICK} --model.teacher ResNet9": "ResNet9 is the teacher's network: write --model.teacher.network ResNet9.",
    f"{QUICK} --model.losses [CrossEntropy,SoftTargets]": "needs a name of your choice, as in '{labels: CrossEntropy,",
    f"{QUICK} --frobnicate 1": "there is no option --frobnicate; `kd-lightning fit --help all` shows all.",
    "export --modle x.pth": "there is no option --modle; did you mean --model?",
}
CLASSES = {
    "--model.losses.kd SoftTarget": "there is no class 'SoftTarget' for --model.losses.kd; did you mean SoftTargets?",
    "--model.losses.kd kd": "there is no class 'kd' for --model.losses.kd; did you mean SoftTargets?",
    "--model.losses.kd dist": "there is no class 'dist' for --model.losses.kd; did you mean DIST?",
    "--data CIFAR10": "there is no class 'CIFAR10' for --data; did you mean CIFAR10DataModule?",
    "--data.augment [RandomCrop,Flip]": "for --data.augment; did you mean AlternatingFlip or HorizontalFlip?",
    "--model.network Transformer": "no class 'Transformer' for --model.network; `kd-lightning list networks` shows all",
}
TAKEN = [
    "fit -cstudent.yaml --trainer.max_ep 3 --seed 1",
    f"{QUICK} --print_config",
    "fit --quiet --config student.yaml",
    f"{QUICK} --model.losses.kd.init_args.temperature -1",
    f"{QUICK} --model.losses.kd my_losses.Own --model.losses.kd.anything 3 --model.losses.other OwnToo",
    f"{QUICK} --model my_tasks.Own --model.anything 3",
    f"{QUICK} --model.optimizer torch.optim.SGD --model.optimizer.nesterov true",
    f"{QUICK} --trainer.callbacks EarlyStopping --trainer.callbacks.monitor val/loss",
    f"{QUICK} --trainer.callbacks+ SaveWeights --data.augment+ Mixup",
    f"{QUICK} --model.network.num_classes 10 --model.network null --model.network.anything 1",
    "compare --config levers.yaml --trainer.max_epochs 3 --model.anything 2",
    "export --model x.pth --network my.Net",
]


@pytest.fixture(autouse=True)
def no_classes_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "has_other_classes", lambda: False)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_with_what_was_meant(mistake: str) -> None:
    with pytest.raises(UserError) as error:
        check_arguments(mistake.split())
    assert MISTAKES[mistake] in str(error.value)
    assert len(str(error.value)) <= 153  # two lines of 80, with "error: "


@pytest.mark.parametrize("mistake", CLASSES)
def test_an_unknown_class_is_answered_with_a_known_one(mistake: str) -> None:
    with pytest.raises(UserError, match="there is no class"):
        check_arguments([*QUICK.split(), *mistake.split()])
    with pytest.raises(UserError) as error:
        check_arguments([*QUICK.split(), *mistake.split()])
    assert CLASSES[mistake] in str(error.value)


@pytest.mark.parametrize("taken", TAKEN)
def test_what_the_parser_takes_or_alone_can_judge_is_left_to_it(taken: str) -> None:
    check_arguments(taken.split())


def test_a_bare_name_may_be_a_users_class_where_any_of_the_users_is_named() -> None:
    check_arguments(f"{QUICK} --model.losses.a my_losses.A --model.losses.b B".split())
    check_arguments(f"{QUICK} --trainer.callbacks my_callbacks.C --model.losses.b B".split())


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_config_passes(path: Path) -> None:
    command = "compare" if "compared:" in path.read_text() else "fit"
    check_arguments([command, "--config", path.name])


def test_a_mistake_in_a_config_names_the_config(tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text("trainer: {max_epocs: 3}\n")
    with pytest.raises(UserError) as error:
        check_arguments(["fit", "--config", str(config)])
    assert str(error.value) == (
        f"in {config}: there is no option --trainer.max_epocs; did you mean --trainer.max_epochs?"
    )


def test_the_names_of_options_are_those_of_the_parsers(monkeypatch: pytest.MonkeyPatch) -> None:
    class ParsedError(Exception): ...

    found: dict[str, list[str]] = {}

    def look(parser: Any, *args: Any, **options: Any) -> None:
        inner = [action for action in parser._actions if "SubCommands" in type(action).__name__]
        parsers = inner[0]._name_parser_map if inner else {command: parser}
        for name, part in parsers.items():
            found[name] = [word[2:] for action in part._actions for word in action.option_strings if word[1] == "-"]
        raise ParsedError

    monkeypatch.setattr(Parser, "parse_args", look)
    for command in ("fit", "compare", "benchmark", "data", "stats", "export"):
        with pytest.raises(ParsedError):
            import_module(COMMANDS[command][0]).main([command, "--config=levers.yaml"])
    assert set(found) == set(names.TOP)
    for command, options in found.items():
        each_run = {"trainer", "model", "data"} if command == "compare" else set[str]()
        taken = {option.partition(".")[0].rstrip("+") for option in options} | each_run
        assert taken | {"quiet"} == {*names.TOP[command], "quiet"}
    trainer = {option.split(".")[1].rstrip("+") for option in found["fit"] if option.startswith("trainer.")}
    assert trainer == set(names.options_of(names.trainer_source()) or ())


@pytest.mark.parametrize("kind", KINDS)
def test_the_options_of_every_class_are_those_of_the_parser(kind: str) -> None:
    for entry in entries(KINDS[kind]):
        known = names.options_of(entry.source)
        taken = ArgumentParser().add_class_arguments(resolve_name(entry.source.path), fail_untyped=False)
        assert known is None or set(known) == set(taken), entry.source.path


def test_a_mistake_is_answered_within_a_second_and_without_torch(tmp_path: Path) -> None:
    program = (
        "import sys, time; from kd_lightning.cli import main\n"
        "status = main(sys.argv[1:]); print(status, 'torch' in sys.modules, time.process_time())"
    )
    args = [sys.executable, "-c", program, *QUICK.split(), "--model.temperature", "3"]
    start = time.monotonic()
    done = subprocess.run(args, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert time.monotonic() - start < 20  # of a busy machine
    status, has_torch, seconds = done.stdout.split()
    assert (status, has_torch) == ("2", "False")
    assert float(seconds) < 1
    assert done.stderr == (
        "error: there is no option --model.temperature; did you mean --model.losses.kd.temperature?\n"
    )
