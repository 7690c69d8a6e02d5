"""The parser of the commands that take ``--data``."""

from collections.abc import Sequence

from jsonargparse import Namespace

from kd_lightning.data import ImageDataModule
from kd_lightning.training.mistakes import explained
from kd_lightning.training.parser import Parser


def data_parser(command: str, description: str, *, required: bool = True) -> Parser:
    """Return a parser with ``--data``, which takes any data source and its options."""
    parser = Parser(prog=f"kd-lightning {command}", description=description)
    parser.add_lightning_class_args(ImageDataModule, "data", subclass_mode=True, required=required)
    return parser


def parse(parser: Parser, args: Sequence[str]) -> Namespace:
    """Parse a command's arguments and build its data source.

    Raises:
        UserError: An argument is wrong, or the data source refuses its options.
    """
    config = parser.parse_args(list(args[1:]))
    with explained():
        return parser.instantiate(config)  # type: ignore[no-any-return]
