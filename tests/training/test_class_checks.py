"""A config names classes of the kind that an option takes; no function is called or handed on, and no other class."""

import inspect
import json
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from lightning.pytorch import Callback, strategies
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.loggers import Logger
from lightning.pytorch.plugins import CheckpointIO, ClusterEnvironment, LayerSync, Precision
from lightning.pytorch.profilers import Profiler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from training_example import TINY

from kd_lightning.cli import main
from kd_lightning.data import ImageDataModule
from kd_lightning.data.augment import Augmentation
from kd_lightning.errors import UserError
from kd_lightning.losses import Loss
from kd_lightning.networks import Network
from kd_lightning.tasks import Task
from kd_lightning.training.cli import run
from kd_lightning.training.parser import Parser

KINDS: tuple[type[Any], ...] = (
    *(Task, Network, Loss, ImageDataModule, Augmentation, Callback, Logger, Profiler, strategies.Strategy, Accelerator),
    *(CheckpointIO, ClusterEnvironment, LayerSync, Precision, Optimizer, LRScheduler),
)
PLAIN = re.compile(r"\W|\b(int|float|bool|str|None|NoneType|Literal|Optional|Union|class|typing|datetime|timedelta)\b")
"""Types that take neither a class nor a function."""

STRANGE = """
from collections.abc import Callable
from torch import nn, relu
from torch.optim import Adam, Optimizer
from kd_lightning.networks import LightNN
called = []
def function(*args, **options):
    called.append(options)
def makes_optimizer(lr: float = 0.1) -> Optimizer:
    called.append(lr)
class Called:
    def __init__(self, **options): called.append(options)
    def __call__(self, *args): ...
class Part:
    def __init__(self, size: int = 1): self.size = size
class WithParts(LightNN):
    def __init__(
        self, num_classes: int = 10, in_channels: int = 3, image_size: int = 32, part: Part | None = None,
        layer: Callable[[], nn.Module] = nn.ReLU, function: Callable = relu, unknown=None,
    ):
        super().__init__(num_classes, in_channels, image_size)
        self.made = part, layer(), function, unknown
"""


@pytest.fixture
def strange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module with functions and classes that write down that they were called."""
    (tmp_path / "strange.py").write_text(STRANGE)
    monkeypatch.syspath_prepend(tmp_path)
    yield import_module("strange")
    del sys.modules["strange"]


def function(**arguments: Any) -> dict[str, Any]:
    return {"class_path": "strange.function", **arguments}


def slots() -> Iterator[tuple[type[Any], type[Any], str]]:
    """Yield a base, each class under it that is a library's or ours, and each argument that is not a plain value."""
    for base in KINDS:
        for kind in dict.fromkeys(kinds(base)):
            for part in inspect.getmro(kind) if not inspect.isabstract(kind) else ():
                init = vars(part).get("__init__")
                for name, parameter in inspect.signature(init).parameters.items() if inspect.isroutine(init) else ():
                    if name not in ("self", "args", "kwargs") and PLAIN.sub("", str(parameter.annotation)):
                        yield base, kind, name


def kinds(base: type[Any]) -> Iterator[type[Any]]:
    yield base
    for kind in base.__subclasses__():
        if kind.__module__.startswith(("kd_lightning.", "lightning.", "torch.")) and "<" not in kind.__qualname__:
            yield from kinds(kind)


def test_no_argument_of_any_class_calls_a_function_or_builds_an_object_of_another_type(strange: ModuleType) -> None:
    parsers = {base: Parser() for base in KINDS}
    for base, parser in parsers.items():
        parser.add_argument("--it", type=base)
    found = sorted(set(slots()), key=str)
    assert len(found) > 150
    assert {"on_train_start", "lr_lambda", "ddp_comm_hook", "optimizer", "avg_fn"} <= {name for _, _, name in found}
    for base, kind, name in found:
        for given in (function(dict_kwargs={"a": 1}), {"class_path": "strange.Called"}, "strange.function"):
            settings = {"class_path": f"{kind.__module__}.{kind.__qualname__}", "init_args": {name: given}}
            with suppress(UserError):  # text is text where the argument takes text
                config = parsers[base].parse_object({"it": settings})
                assert isinstance(given, str), (kind, name, given)
                assert str(config.it.init_args[name]) == given
    assert strange.called == []


LAMBDA = "lightning.pytorch.callbacks.LambdaCallback"
REFUSED: dict[str, tuple[str, str]] = {
    "an optimizer": (
        f"--model.optimizer={json.dumps(function(dict_kwargs={'a': 1}))}",
        r"--model.optimizer is strange\.f",
    ),
    "with settings": (f"--model.optimizer={json.dumps(function(init_args={'a': 1}))}", "is a function"),
    "by its name": ("--model.optimizer=strange.function", "is a function"),
    "that declares that it makes one": ("--model.optimizer=strange.makes_optimizer", "a subclass of Optimizer"),
    "of the system": (
        '--model.optimizer={"class_path": "os.system", "init_args": {"command": "false"}}',
        "is a function",
    ),
    "a class of another kind": ("--model.optimizer=strange.Called", "Expected 'strange.Called' to be a subclass"),
    "a schedule": (f"--model.lr_scheduler={json.dumps(function())}", "--model.lr_scheduler is strange.function, which"),
    "a schedule's function": (
        '--model.lr_scheduler={"class_path": "LambdaLR", "init_args": {"lr_lambda": "strange.function"}}',
        r"--model.lr_scheduler.lr_lambda is strange.function, but functions.* come from Python",
    ),
    "a hook": (
        f'--trainer.callbacks=[{{"class_path": "{LAMBDA}", "init_args": {{"on_fit_start": "strange.function"}}}}]',
        r"--trainer.callbacks.on_fit_start is strange.function, but functions.* come from Python",
    ),
    "a hook's class": (
        f'--trainer.callbacks=[{{"class_path": "{LAMBDA}", "init_args": {{"on_fit_start": "strange.Called"}}}}]',
        r"on_fit_start is strange.Called, but .* classes of an unknown kind",
    ),
    "a callback": (
        f"--trainer.callbacks=[{json.dumps(function())}]",
        "strange.function, which is not a subclass of Callback",
    ),
}


@pytest.mark.filterwarnings("ignore:::jsonargparse")
@pytest.mark.parametrize(("option", "answer"), REFUSED.values(), ids=REFUSED.keys())
def test_a_fit_refuses_functions_in_one_sentence(
    option: str, answer: str, strange: ModuleType, temp_folder: Path
) -> None:
    with pytest.raises(UserError, match=answer) as refused:
        run(["fit", "--config=student.yaml", *TINY, option])
    assert "\n" not in str(refused.value)
    assert strange.called == []
    assert list(temp_folder.iterdir()) == []


OWN = {
    "model": {
        "class_path": "Classifier",
        "init_args": {"network": "LightNN", "optimizer": function(dict_kwargs={"a": 1})},
    }
}
ROW = {"config": "student.yaml", "options": {"model.optimizer": function()}, "name": "strange"}
COMMANDS = {
    "test": ["test", "--config=own.yaml", *TINY],
    "benchmark": ["benchmark", "--config=own.yaml", *TINY[:1]],
    "teacher": ["fit", "--config=cosine.yaml", *TINY, "--model.teacher.config=own.yaml"],
    "baseline": ["fit", "--config=cosine.yaml", *TINY, "--baseline=own.yaml"],
    "study": ["compare", "--config=study.yaml", "--data=tiny.TinyDataModule", "--seeds=2", "--output=out"],
}


@pytest.mark.parametrize("args", COMMANDS.values(), ids=COMMANDS.keys())
def test_every_command_and_every_config_that_another_names_is_checked(
    args: list[str], strange: ModuleType, temp_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("own.yaml").write_text(yaml.safe_dump(OWN))
    Path("study.yaml").write_text(yaml.safe_dump({"baseline": {"config": "student.yaml"}, "compared": [ROW]}))
    assert main(args) == 2
    assert "strange.function, which is a function" in capsys.readouterr().err
    assert strange.called == []


def test_an_object_of_the_arguments_type_is_built_and_a_default_may_be_a_function(strange: ModuleType) -> None:
    parser = Parser()
    parser.add_argument("--network", type=Network)

    def parse(**arguments: Any) -> Any:
        return parser.parse_object({"network": {"class_path": "strange.WithParts", "init_args": arguments}})

    made = parser.instantiate(parse(part="strange.Part", layer="torch.nn.GELU", function="torch.relu")).network.made
    assert [type(part).__name__ for part in made[:2]] == ["Part", "GELU"]
    assert made[2].__name__ == "relu"
    for name, given in {"function": "torch.tanh", "unknown": {"class_path": "strange.Part"}}.items():
        with pytest.raises(UserError, match=f"--network.{name} is .* come from Python"):
            parse(**{name: given})
