"""A row of a study, as its file has it, and the settings among which it is chosen."""

import json
import math
import os
import re
from argparse import Namespace
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from itertools import count, product
from math import prod
from pathlib import Path
from typing import Any, Self

from kd_lightning.errors import UserError
from kd_lightning.files import LONGEST_NAME
from kd_lightning.wording import shown

EACH_RUN = ("--data", "--model", "--trainer")
"""Options that every run of a study gets; they are those of ``fit``."""

MAX_SETTINGS = 256
"""The most settings of a grid: all are built before the first run."""

Setting = dict[str, Any]
"""Options of ``fit`` and their values, which may become a row's."""


@dataclass(frozen=True)
class Search:
    """A space of settings that Optuna searches.

    Args:
        space: For each option a list of values, or an interval as in ``{low: 1e-4, high: 1e-1, log: true}``.
        trials: Number of settings that are tried.

    Raises:
        UserError: The space holds something else, or no settings are tried.
    """

    space: dict[str, Any]
    trials: int = 30

    def __post_init__(self) -> None:
        if self.trials < 1 or not self.space:
            raise UserError(f"`search` tries {self.trials} settings of {list(self.space)}; give it a space and trials.")
        for name, values in self.space.items():
            if not (isinstance(values, list) and values) and not _is_interval(values):
                raise UserError(
                    f"`search` has {values!r} for '{name}', but it takes a list of values, or {{low: 1e-4, high: 0.1, "
                    "log: true}."
                )

    @property
    def ends(self) -> list[Setting]:
        """The first and the last of each option's values, to try whether they can be built."""
        return [
            {name: values[end] if isinstance(values, list) else values[key] for name, values in self.space.items()}
            for end, key in ((0, "low"), (-1, "high"))
        ]


def _is_interval(values: Any) -> bool:
    known = {"low", "high", "log"}
    if not isinstance(values, dict) or not {"low", "high"} <= values.keys() <= known:
        return False
    low, high = values["low"], values["high"]
    numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in (low, high))
    log = values.get("log", False)
    return numbers and isinstance(log, bool) and -math.inf < low < high < math.inf and (low > 0 or not log)


@dataclass(frozen=True)
class RowConfig:
    """A row of a study.

    With a ``grid`` or a ``search`` it is the best of several settings on validation images.

    Args:
        config: A config of ``fit``.
        name: Name of the row in reports; defaults to the config's name.
        reported: Test accuracy in per cent that others report for it.
        options: Options of ``fit`` that override the row's config, as in ``model.ce_loss_weight: 0.5``.
        grid: Options and the values to try of each, as in ``model.optimizer.lr: [0.001, 0.01]``: a setting for each
            combination.
        search: A larger space of settings, of which Optuna tries some.

    Raises:
        UserError: The name cannot be shown, or is too long; or it has a grid that is empty or far too large.
    """

    config: str
    name: str | None = None
    reported: float | None = None
    options: dict[str, Any] = field(default_factory=dict)
    grid: dict[str, list[Any]] = field(default_factory=dict)
    search: Search | None = None

    def __post_init__(self) -> None:
        if self.grid and self.search:
            raise UserError(f"the row '{self.title}' has both a grid and a search; leave one of them out.")
        if self.grid and not 0 < prod(map(len, self.grid.values())) <= MAX_SETTINGS:
            raise UserError(
                f"the grid of the row '{self.title}' has {prod(map(len, self.grid.values())):,} settings, but it takes "
                f"1 to {MAX_SETTINGS}; give each option its values, or use `search`."
            )
        if shown(self.title) != self.title:
            raise UserError(
                f"a row of the study is called '{shown(self.title)}', with characters that no table can show; "
                "give it another `name`."
            )
        if len(os.fsencode(self.folder)) > LONGEST_NAME:
            raise UserError(
                f"a row of the study is called '{self.title[:40]}...', {len(self.title)} characters in all, but its "
                f"logs need a folder of that name; give it a `name` of at most {LONGEST_NAME} bytes."
            )

    @property
    def is_chosen(self) -> bool:
        """Whether it is the best of several settings."""
        return bool(self.grid or self.search)

    @property
    def settings(self) -> list[Setting]:
        """The settings of its grid, none without one; of a search those at the ends of its space."""
        if self.search is not None:
            return self.search.ends
        combinations = product(*self.grid.values()) if self.grid else ()
        return [dict(zip(self.grid, values, strict=True)) for values in combinations]

    def at(self, setting: Setting, number: int | None = None) -> Self:
        """Return the row with a setting, named as one of several where it has a ``number``."""
        kept = {name: value for name, value in self.options.items() if name not in setting}
        text = f"{self.title[:60]} {number}: {setting_text(setting)}"[:100]
        name = self.name if number is None else text
        return replace(self, name=name, options={**kept, **setting}, grid={}, search=None)

    @property
    def args(self) -> tuple[str, ...]:
        """The options as a command line has them."""
        return as_args(self.options, f"the row '{self.title}'")

    @property
    def title(self) -> str:
        """Name of the row in reports."""
        return self.name or Path(self.config).stem

    @property
    def folder(self) -> str:
        """Name of the folder of the row's logs."""
        return re.sub(r"[^\w.-]+", "_", self.title).lstrip(".") or "_"


def setting_text(setting: Setting) -> str:
    """Return a setting in words, as ``temperature 4, lr 0.1``: each option by the end of its name that is its own."""
    texts = (value if isinstance(value, str) else as_text(value) for value in setting.values())
    return shown(", ".join(f"{_short(name, setting)} {text}" for name, text in zip(setting, texts, strict=True)))


def _short(name: str, names: Collection[str]) -> str:
    parts = name.split(".")
    ends = (".".join(parts[-number:]) for number in count(1))
    return next(end for end in ends if sum(f".{other}".endswith(f".{end}") for other in names) == 1 or end == name)


def as_args(options: dict[str, Any], owner: str) -> tuple[str, ...]:
    """Return options as a command line has them.

    Args:
        options: The options, as in ``model.ce_loss_weight: 0.5``.
        owner: Whose they are, for the message.

    Raises:
        UserError: One of them is not an option of data, model or trainer.
    """
    for name in options:
        if not f"--{name}".startswith(EACH_RUN):
            raise UserError(
                f"{owner} has the option '{name}', but `options` change data, model or trainer; write it as in "
                "`model.ce_loss_weight: 0.5`."
            )
    return tuple(f"--{name}={value if isinstance(value, str) else as_text(value)}" for name, value in options.items())


def as_plain(value: Any) -> Any:
    """Return a value of YAML without jsonargparse's own form of mappings."""
    if isinstance(value, Namespace | dict):
        items = vars(value) if isinstance(value, Namespace) else value
        return {name: as_plain(item) for name, item in items.items()}
    return [as_plain(item) for item in value] if isinstance(value, list) else value


def as_text(value: Any) -> str:
    """Return a value of YAML as text in one line that is read as the same value.

    Raises:
        UserError: No option can have it, such as a set.
    """
    if isinstance(value, Namespace):  # jsonargparse's form of a config of a class
        return as_text(vars(value))
    if isinstance(value, dict):
        return "{" + ", ".join(f"{as_text(name)}: {as_text(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_text, value)) + "]"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value:+}".replace("inf", ".inf").replace("+nan", ".nan")
    if value is None or isinstance(value, bool | int | float | str):
        return json.dumps(value, ensure_ascii=False)  # YAML does not know JSON's pairs of surrogates
    raise UserError(f"an option is {value!r}, but it must be a number, a text, a list or a mapping.")
