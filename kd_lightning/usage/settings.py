"""Settings checked by name before torch is imported: their options, and the classes that they name."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from kd_lightning.errors import UserError
from kd_lightning.listing.classes import ClassSource, find_class
from kd_lightning.listing.kinds import KINDS, entries
from kd_lightning.training.suggest import FROM_DATA, meant_classes, names_of, unknown_class, unknown_option
from kd_lightning.usage import names
from kd_lightning.wording import shown

INSIDE = {
    "network": "networks",
    "teacher": "teachers",
    "members": "teachers",
    "losses": "losses",
    "augment": "augmentations",
}
"""The options that take classes of this project, and their kinds."""

OF_CLASS = ("class_path", "init_args", "dict_kwargs", "help")
"""Names that the parser itself takes in the place of each class."""

LIBRARIES = ("kd_lightning", "lightning", "pytorch_lightning", "torch")
"""Packages without classes of the user's."""

IMPORT_PATH = re.compile(r"([A-Za-z_]\w*)(\.[A-Za-z_]\w*)+")


class UnknownOptionError(Exception):
    """An option that its owner does not have."""

    def __init__(self, place: str, name: str, owner: str, known: tuple[str, ...]) -> None:
        super().__init__(name)
        self.place, self.name, self.owner, self.known = place, name, owner, known


@dataclass
class Place:
    """A place in a config.

    Attributes:
        known: The names in it; ``None``: any.
        owner: Who has them, for the message.
        parts: Places in it, by name.
    """

    known: tuple[str, ...] | None = None
    owner: str = ""
    parts: dict[str, "Place"] = field(default_factory=dict)

    def add(self, given: Any, at: str, own_only: bool) -> None:
        """Take new settings.

        Args:
            given: The settings; anything but a mapping, such as a file's name, is not read.
            at: The option that they belong to.
            own_only: Whether all classes with bare names are this project's.

        Raises:
            UnknownOptionError: An option has an unknown name.
            UserError: A class has an unknown name.
        """
        if not isinstance(given, Mapping):
            return
        for key, value in given.items():
            name, _, rest = str(key).partition(".")
            bare = name.removesuffix("+")
            self.check(bare, at)
            if part := self.part(bare):
                part.add({rest: value} if rest else value, f"{at}.{bare}".lstrip("."), own_only)

    def check(self, name: str, at: str) -> None:
        """Refuse a name that is none here; the parser takes the beginning of one."""
        if self.known is not None and not any(known.startswith(name) for known in self.known):
            raise UnknownOptionError(at, name, self.owner, self.known)

    def part(self, name: str) -> "Place | None":
        """Return the place that a name has in this one."""
        return self.parts.get(name)


@dataclass
class Named(Place):
    """Classes by names of the user's choice.

    Attributes:
        kind: Their kind.
    """

    kind: str = ""

    def part(self, name: str) -> Place:
        """Return the place of one."""
        return self.parts.setdefault(name, ClassPlace(kind=self.kind))


@dataclass
class Losses(Named):
    """The losses of a task."""

    kind: str = "losses"

    def add(self, given: Any, at: str, own_only: bool) -> None:
        """Take losses; refuse a list of them, or one without a name."""
        if isinstance(given, list) or (isinstance(given, str) and find_class(f"kd_lightning.losses.{given}")):
            names = f"{{labels: CrossEntropy, kd: {given if isinstance(given, str) else 'SoftTargets'}}}"
            what = "a list" if isinstance(given, list) else shown(given)
            raise UserError(f"--{at} is {what}, but each loss needs a name of your choice, as in '{names}'.")
        super().add(given, at, own_only)


@dataclass
class ClassPlace(Place):
    """The place of a class and its options.

    Attributes:
        kind: Its kind, as ``list`` names it.
    """

    kind: str = ""

    def add(self, given: Any, at: str, own_only: bool) -> None:
        """Take a class's name, its options, or both; a list has several classes."""
        if isinstance(given, list):
            for item in given:
                ClassPlace(kind=self.kind).add(item, at, own_only)
        elif not isinstance(given, Mapping):
            self.name(given, at, own_only)
        else:
            if "class_path" in given:
                self.name(given["class_path"], at, own_only)
            inner = given.get("init_args")
            options = {name: value for name, value in given.items() if str(name).partition(".")[0] not in OF_CLASS}
            super().add({**options, **(inner if isinstance(inner, Mapping) else {})}, at, own_only)

    def check(self, name: str, at: str) -> None:
        """Refuse a name that is not an option of the class."""
        if self.known is not None and name not in self.known:
            hidden = FROM_DATA if self.kind == "networks" else ()
            raise UnknownOptionError(at, name, self.owner, tuple(known for known in self.known if known not in hidden))

    def name(self, given: Any, at: str, own_only: bool) -> None:
        """Take a class's name; of an unknown one nothing is known.

        Raises:
            UserError: No class has it.
        """
        if self.kind == "teachers" and isinstance(given, str) and find_class(f"kd_lightning.networks.{given}"):
            raise UserError(f"--{at} is {given}, but {given} is the teacher's network: write --{at}.network {given}.")
        source = self.find(given)
        if source is None and self.kind in KINDS and own_only and self.is_no_class(given):
            raise UserError(unknown_class(f"--{at}", given, self.meant(given), f"kd-lightning list {self.kind}"))
        self.known, self.owner = names.options_of(source), source.name if source else ""
        own = self.known if self.known and self.kind != "losses" else ()  # the teacher of a loss is a layer
        inside = {name: kind for name, kind in INSIDE.items() if name in own}
        kept = {name: self.parts[name] for name in inside if name in self.parts}
        several = {"losses": Losses(), "members": Named(kind="teachers")}
        self.parts = {name: several.get(name) or ClassPlace(kind=kind) for name, kind in inside.items()}
        self.parts |= kept

    def find(self, given: Any) -> ClassSource | None:
        """Return this project's class of a name."""
        if not isinstance(given, str):
            return None
        if given.startswith("kd_lightning."):
            return find_class(given)
        return find_class(f"{KINDS[self.kind].package}.{given}") if given.isidentifier() else None

    def is_no_class(self, given: Any) -> bool:
        """Return whether a text can only be meant as a class, but is none, and not a file's name."""
        is_name = isinstance(given, str) and given.isidentifier() and given.lower() not in ("null", "none")
        return is_name and not Path(given).exists() and not names.is_own_class(given)

    def meant(self, given: str) -> list[str]:
        """Return the classes that a wrong name may mean."""
        kind = KINDS[self.kind]
        known = [(entry.source.name, entry.source.short, kind.ending) for entry in entries(kind)]
        return meant_classes(given, names_of(known))


class Settings:
    """What a command's configs and options have set so far."""

    def __init__(self, command: str) -> None:
        self.root = Place(names.TOP[command], command)
        trainer = Place(names.options_of(names.trainer_source()), "the trainer")
        files = Place(tuple(option.name for option in names.files_options()), "--files")
        self.root.parts = {"trainer": trainer, "files": files, "data": ClassPlace(kind="data")}
        if command in names.WITH_TASK:
            self.root.parts["model"] = ClassPlace(kind="tasks")
        self.command = command

    def add(self, given: Mapping[str, Any], own_only: bool, option: str = "", before: str = "") -> None:
        """Take new settings.

        Args:
            given: The settings.
            own_only: Whether all classes with bare names are this project's.
            option: The option that gives them, as it is written; empty for a config.
            before: How the message begins.

        Raises:
            UserError: A name is unknown.
        """
        try:
            self.root.add(given, "", own_only)
        except UnknownOptionError as wrong:
            path = "--" + ".".join(filter(None, (wrong.place, wrong.name)))
            option = "" if path.startswith(f"{option}.") else option  # the name is in the option's value
            all_of = f"kd-lightning {self.command} --help all"
            sentence = unknown_option(option or path, self.meant(wrong, option), wrong.owner, wrong.known, all_of)
            raise UserError(f"{before}{sentence}") from wrong

    def meant(self, wrong: UnknownOptionError, option: str) -> list[str]:
        """Return the options that were probably meant, with the whole rest of the one that was written."""
        leaf = option.rpartition(".")[2].removeprefix("--") or wrong.name
        place = f"--{wrong.place}." if wrong.place else "--"
        rest = option.removeprefix(f"{place}{wrong.name}")
        alias = names.MEANT.get(leaf, leaf)
        exact = [f"--{at}.{alias}".replace("--.", "--") for at, known in self.places() if alias in known]
        if exact:
            return exact[:2] if exact[0].startswith("--model.losses") else exact[:1]
        if near := get_close_matches(wrong.name, wrong.known, n=1):
            return [f"{place}{near[0]}{rest}"]
        leaves = {name: at for at, known in reversed(list(self.places())) for name in known}
        return [f"--{leaves[name]}.{name}" for name in get_close_matches(leaf, leaves, n=1, cutoff=0.75)]

    def places(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Give the places whose options may be meant, and their names; the first counts."""
        parts = self.root.parts
        yield "trainer", parts["trainer"].known or ()
        yield "data", parts["data"].known or names.options_of(find_class("kd_lightning.data.ImageDataModule")) or ()
        yield "", self.root.known or ()
        if (model := parts.get("model")) is None:
            return
        yield "model", model.known or ()
        yield "model.optimizer", names.OPTIMIZER
        losses = model.parts.get("losses", Place()).parts
        yield from ((f"model.losses.{name}", place.known or ()) for name, place in reversed(losses.items()))
        for name in ("network", "teacher"):
            yield f"model.{name}", model.parts.get(name, Place()).known or ()
