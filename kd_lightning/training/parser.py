"""The parser of all commands that take configs."""

import re
import warnings
from enum import Enum
from typing import Any, NoReturn

import yaml
from jsonargparse import ActionConfigFile, Namespace
from lightning.pytorch.cli import LightningArgumentParser

import kd_lightning.data.hugging_face
import kd_lightning.data.image_folder
import kd_lightning.data.shapes
import kd_lightning.data.tiny_imagenet
import kd_lightning.data.torchvision_sets  # noqa: F401  bare class names are those of imported classes
from kd_lightning.errors import UserError
from kd_lightning.training.class_change import as_settings, drop_replaced
from kd_lightning.training.class_checks import check_classes, import_path
from kd_lightning.training.config_files import ConfigFile
from kd_lightning.training.parse_errors import IS_FUNCTION, explain
from kd_lightning.wording import shortened

UNSERIALIZABLE = "Unable to serialize instance "
"""How the parser's text for a value that it cannot serialize begins."""

yaml.SafeDumper.add_multi_representer(Enum, lambda dumper, value: dumper.represent_data(value.value))  # some defaults


class Parser(LightningArgumentParser):
    """LightningCLI's parser with bare config names and errors of one sentence.

    Attributes:
        builds: Whether this parser's results are built into objects; if so, their classes are checked.
    """

    builds = True

    def add_argument(self, *args: Any, **kwargs: Any) -> Any:
        """Add an argument; configs are found by their bare names."""
        if kwargs.get("action") is ActionConfigFile:
            kwargs["action"] = ConfigFile
        return super().add_argument(*args, **kwargs)

    def add_function_arguments(self, function: Any, *args: Any, **kwargs: Any) -> NoReturn:
        """Refuse a function in place of a class, before it is called."""
        raise ImportError(f"{import_path(function)} {IS_FUNCTION}")

    def parse_args(self, args: Any = None, namespace: Any = None, **kwargs: Any) -> Namespace:  # type: ignore[override]
        """Parse options; an option inside of a class comes on its own, with the class's earlier settings."""
        drop_replaced(namespace, as_settings(args))
        parsed: Namespace = super().parse_args(args, namespace, **kwargs)
        command = parsed.get("subcommand")
        trainer = (parsed[command] if command else parsed).get("trainer")
        if isinstance(trainer, Namespace) and isinstance(trainer.get("callbacks"), Namespace):
            trainer.callbacks = [trainer.callbacks]
        return parsed

    def dump(self, namespace: Namespace, *args: Any, **kwargs: Any) -> str:
        """Return a config as text that parses to the same config."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", rf"\s*{UNSERIALIZABLE}")
            text: str = super().dump(namespace, *args, **kwargs)
        if UNSERIALIZABLE not in text:
            return text
        header = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
        return header + yaml.safe_dump(_serializable(yaml.safe_load(text)), sort_keys=False, allow_unicode=True)

    def parse_object(self, obj: Any, namespace: Any = None, **kwargs: Any) -> Namespace:
        """Parse settings of a class, with its earlier settings."""
        drop_replaced(namespace, obj)
        parsed: Namespace = super().parse_object(obj, namespace, **kwargs)
        return parsed

    def validate(self, namespace: Namespace, *args: Any, **kwargs: Any) -> None:
        """Check a config's values, and the classes that it names where it is a whole config."""
        super().validate(namespace, *args, **kwargs)
        if self.builds and self.exit_on_error:  # parsers inside of this one do not exit
            check_classes(namespace)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Turn a parsing error into one for users; parsers inside of this one raise theirs to it."""
        if not self.exit_on_error:
            super().error(message, ex)
        raise UserError(shortened(explain(message)))


def plain(parser: LightningArgumentParser, config: Namespace) -> dict[str, Any]:
    """Return a config as plain values."""
    values: dict[str, Any] = yaml.safe_load(parser.dump(config, skip_unset=False, skip_validation=True))
    return values


def _serializable(value: Any) -> Any:
    """Write names, such as ``cpu`` and ``l1_unstructured``, for values that the parser cannot write; drop others.

    The others are defaults of classes, so nothing is lost.
    """
    if isinstance(value, list):
        return [_serializable(item) for item in value]
    if isinstance(value, dict):
        kept = {key: _serializable(item) for key, item in value.items()}
        return {key: item for key, item in kept.items() if not str(item).startswith(UNSERIALIZABLE)}
    if isinstance(value, str) and re.fullmatch(rf"{UNSERIALIZABLE}[\w.:]+", value):
        return value.removeprefix(UNSERIALIZABLE)
    return value
